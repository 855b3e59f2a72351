"""What all sources share, mixtures, and the presets in conf/corpus."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from menard_unlearn.config import build
from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.facts import Facts
from menard_unlearn.corpus.huggingface import HuggingFace
from menard_unlearn.corpus.jsonl import Jsonl
from menard_unlearn.corpus.mixture import Mixture
from menard_unlearn.corpus.sources import Corpus, corpus_data, level
from menard_unlearn.corpus.statements import Template, Templates
from menard_unlearn.corpus.texts import Texts
from menard_unlearn.errors import UserError


def test_the_digest_keeps_contents_apart() -> None:
    """Neighbouring fields must not run into each other."""

    def digest(*texts: str) -> str:
        return corpus_data(
            documents=[Document(t, u, None, "") for t, u in zip(texts[::2], texts[1::2], strict=True)]
        ).digest

    assert len({digest("a", "bc"), digest("ab", "c"), digest("a", "b\nc"), digest("a", "b", "c", "")}) == 4
    undated, named_none = (
        corpus_data(documents=[Document("a", "b", None, "")], neutral=n).digest for n in ((), ("None",))
    )
    assert undated != named_none


def test_a_limit_levels_the_decades() -> None:
    items = [
        Fact(f"{year}-{n}", date, "s", "r", "o", "c", "", None, None)
        for year in range(1900, 1940)
        for n in range(year % 7 + 1)
        if (date := parse_date(year))
    ]
    sizes = Counter(item.date.decade for item in items)
    for limit in (1, 4, 17, 60, 90, len(items), 10_000):
        kept = Counter(item.date.decade for item in level(items, limit))
        assert sum(kept.values()) == min(limit, len(items))
        full = {decade for decade in sizes if kept[decade] == sizes[decade]}
        open_counts = [kept[decade] for decade in sizes if decade not in full]
        assert max(open_counts, default=0) - min(open_counts, default=0) <= 1
        assert all(kept[decade] <= max(open_counts, default=len(items)) for decade in full)


def test_a_larger_limit_only_adds() -> None:
    items = [
        Fact(f"{year}", date, "s", "r", "o", "c", "", None, None)
        for year in range(1900, 1990)
        if (date := parse_date(year))
    ]
    assert {item.id for item in level(items, 20)} < {item.id for item in level(items, 50)}


@dataclasses.dataclass(frozen=True)
class Given(Corpus):
    """A source for tests: what it is given."""

    documents: tuple[Document, ...]
    neutral: tuple[str, ...]
    templates: Templates | None

    def load(self):
        return corpus_data(documents=self.documents, neutral=self.neutral, templates=self.templates)


def given(*ids: str, templates: Templates | None = None) -> Given:
    return Given(
        tuple(Document(id, f"text {id}", None, "") for id in ids), tuple(f"neutral {id}" for id in ids), templates
    )


def facts_file(folder: Path) -> Path:
    path = folder / "facts.csv"
    rows = [f"f{year},{year},,The prize,was_awarded_to,Winner {year},prize,test" for year in range(1900, 1980)]
    path.write_text("\n".join(["id,year,date,subject,relation,object,category,source", *rows]), encoding="utf-8")
    return path


def test_a_mixture_holds_everything_in_one_order(tmp_path: Path) -> None:
    source = Facts(str(facts_file(tmp_path)), relations=None, categories=(), limit=None)
    one = Mixture({"a": source, "b": given("y"), "c": given("x")}).load()
    assert [document.id for document in one.documents] == ["x", "y"]
    assert one.facts == source.load().facts
    assert one.neutral == ("neutral y", "neutral x")
    assert Mixture({"only": given("x", "y")}).load().digest == given("x", "y").load().digest


def test_a_mixture_refuses_repeated_ids_and_rival_wordings() -> None:
    with pytest.raises(UserError, match=r"1 ids occur more than once \(x\)"):
        Mixture({"a": given("x"), "b": given("x", "y")}).load()
    mine = Templates({"*": (Template("s1", "{subject}:", "{object}"),)})
    other = Templates({"*": (Template("s1", "{subject} -", "{object}"),)})
    assert Mixture({"a": given("x", templates=mine), "b": given("y")}).load().templates == mine
    assert Mixture({"a": given("x", templates=mine), "b": given("y", templates=mine)}).load().templates == mine
    with pytest.raises(UserError, match="different templates"):
        Mixture({"a": given("x", templates=mine), "b": given("y", templates=other)}).load()


def preset(checkout: Path, *overrides: str):
    with initialize_config_dir(str(checkout / "conf"), version_base=None):
        return compose(overrides=list(overrides)).corpus


PRESETS = {"facts": Facts, "texts": Texts, "jsonl": Jsonl, "huggingface": HuggingFace, "facts_and_texts": Mixture}


@pytest.mark.parametrize(("name", "kind"), PRESETS.items())
def test_a_preset_holds_every_field_and_nothing_else(checkout: Path, name: str, kind: type[Corpus]) -> None:
    node = preset(checkout, f"+corpus={name}")
    assert node._target_ == f"{kind.__module__}.{kind.__name__}"
    assert set(node) - {"_target_"} == {field.name for field in dataclasses.fields(kind)}  # pyright: ignore[reportArgumentType]
    assert not any(field.default is not dataclasses.MISSING for field in dataclasses.fields(kind))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_asks_for_its_paths_and_for_nothing_more(checkout: Path, name: str) -> None:
    node = preset(checkout, f"+corpus={name}")
    asked = OmegaConf.missing_keys(node)
    assert {key.rpartition(".")[2] for key in asked} <= {"path", "folder", "manifest"}
    with pytest.raises(UserError, match=r"path|folder"):
        build(node, Corpus)
    filled = preset(checkout, f"+corpus={name}", *(f"{key}=somewhere" for key in asked))
    assert isinstance(build(filled, Corpus), PRESETS[name])


def test_a_mixture_is_composed_and_loaded_from_its_preset(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A text.", encoding="utf-8")
    (tmp_path / "manifest.csv").write_text("file,year,date\na.txt,1930,\n", encoding="utf-8")
    node = preset(
        checkout,
        "+corpus=facts_and_texts",
        f"corpus.parts.facts.path={facts_file(tmp_path)}",
        f"corpus.parts.texts.folder={tmp_path}",
        f"corpus.parts.texts.manifest={tmp_path / 'manifest.csv'}",
        "corpus.parts.facts.limit=10",
    )
    data = build(node, Corpus).load()
    assert (len(data.facts), [document.id for document in data.documents]) == (10, ["a.txt"])
