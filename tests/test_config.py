"""build(): YAML nodes become dataclasses, and whatever does not fit is named."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import OmegaConf

from menard_unlearn.compose import compose
from menard_unlearn.config import build, conf_dir, missing_keys, near, to_plain
from menard_unlearn.errors import UserError


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Stop:
    below: float
    patience: int


class Thing(ABC):
    @abstractmethod
    def name(self) -> str: ...


@dataclass(frozen=True)
class Box(Thing):
    width: float
    sizes: tuple[int, ...]
    colour: Colour
    mode: Literal["auto", "off"]
    stop: Stop | None
    inner: Thing | None
    folder: Path
    weights: dict[str, float]
    limit: int | None = None
    tags: list[str] = field(default_factory=list)

    def name(self) -> str:
        return "box"

    def __post_init__(self) -> None:
        if self.width < 0:
            raise ValueError(f"width {self.width} is negative: give a positive one")


@dataclass(frozen=True)
class Other:
    width: float


def node(**changes: Any) -> dict[str, Any]:
    values = {
        "_target_": f"{__name__}.Box",
        "width": 2,
        "sizes": [1, 2],
        "colour": "red",
        "mode": "off",
        "stop": None,
        "inner": None,
        "folder": "a/b",
        "weights": {"x": 1},
    }
    return {key: value for key, value in {**values, **changes}.items() if value is not ...}


def test_values_take_the_types_of_their_fields():
    box = build(OmegaConf.create(node(stop={"below": 1, "patience": 1e1}, limit=3)), Box)
    assert box == Box(2.0, (1, 2), Colour.RED, "off", Stop(1.0, 10), None, Path("a/b"), {"x": 1.0}, 3, [])
    assert isinstance(box.width, float) and isinstance(box.weights["x"], float)
    assert box.stop is not None and isinstance(box.stop.patience, int)


def test_nested_targets_are_built():
    box = build(node(inner=node(width=5)), Thing)
    assert isinstance(box, Box) and isinstance(box.inner, Box) and box.inner.width == 5.0


def test_interpolations_are_resolved_against_the_whole_config():
    cfg = OmegaConf.create({"base": 7, "box": node(width="${base}")})
    assert build(cfg.box, Box).width == 7.0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widht": 1}, ["'widht'", "did you mean width", "sizes", "colour"]),
        ({"width": ...}, ["lacks width", "its keys"]),
        ({"width": "wide"}, ["Box.width", "float", "'wide'"]),
        ({"width": True}, ["Box.width", "float", "True"]),
        ({"width": -1}, ["width -1.0 is negative"]),
        ({"limit": 1.5}, ["Box.limit", "int", "1.5"]),
        ({"sizes": "12"}, ["Box.sizes", "a list"]),
        ({"sizes": [1, "b"]}, ["Box.sizes[1]", "'b'"]),
        ({"colour": "blu"}, ["Box.colour", "red, blue", "did you mean blue"]),
        ({"mode": "on"}, ["Box.mode", "auto, off"]),
        ({"mode": None}, ["Box.mode", "None"]),
        ({"weights": [1]}, ["Box.weights", "mapping"]),
        ({"stop": {"below": 1}}, ["Stop lacks patience"]),
        ({"inner": {"width": 1}}, ["Thing", "_target_"]),
        ({"inner": {"_target_": f"{__name__}.Other", "width": 1}}, ["Other", "kind Thing"]),
        ({"_target_": f"{__name__}.Bax"}, ["'Bax'", "did you mean Box"]),
        ({"_target_": "menard_unlearn.nowhere.Box"}, ["menard_unlearn.nowhere"]),
        ({"_target_": "os.path.join"}, ["not a dataclass"]),
        ({"_target_": ...}, ["_target_"]),
        ({"width": "???"}, ["no value for width", "width=…"]),
        ({"width": "${nothing}"}, ["cannot be resolved", "nothing"]),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(changes: dict[str, Any], words: list[str]):
    with pytest.raises(UserError) as caught:
        build(node(**changes), Thing)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_an_error_inside_an_imported_module_is_not_disguised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "broken_part.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_library_that_is_not_there"):
        build({"_target_": "broken_part.Thing"}, Thing)


def test_to_plain_names_every_missing_value():
    with pytest.raises(UserError, match="run=… to=…"):
        to_plain(OmegaConf.create({"run": "???", "to": "???", "rest": [1, {"a": 2}]}))
    with pytest.raises(UserError, match=r"no value for a\.path: add a\.path=…$"):
        to_plain(OmegaConf.create({"a": {"path": "???", "name": "${a.path}"}}))
    assert to_plain(OmegaConf.create({"a": "${b}", "b": [1, 2]})) == {"a": [1, 2], "b": [1, 2]}


def test_near_names_only_what_resembles():
    assert near("metod", ["method", "model"]) == " (did you mean method?)"
    assert near("xyzzy", ["method", "model"]) == ""


def test_conf_is_found_from_the_checkout(checkout: Path):
    assert conf_dir() == checkout / "conf"


CONF = Path(__file__).resolve().parents[1] / "conf"
GROUPS = ["corpus", "model", "target", "method", "trainer", "evaluation", "tracking"]
CHOICES = [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize("choice", CHOICES)
def test_every_choice_of_every_group_composes_into_objects(choice: str):
    cfg = compose("unlearn", [choice])
    group, name = choice.split("=")
    for key in missing_keys(cfg):  # what only its user can know
        OmegaConf.update(cfg, key, "1939" if key.endswith("published") else "something")
    build(to_plain(cfg)[group], object)
    assert to_plain(cfg)["method_name"] == (name if group == "method" else "rmu")


@pytest.mark.parametrize("stage", ["pretrain", "evaluate", "finetune", "features", "context"])
def test_the_other_stages_compose(stage: str):
    assert to_plain(compose(stage, []))["stage"] == stage
