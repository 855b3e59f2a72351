"""The memo of a sweep's configurations: the same as composing anew, and never older than what it was made of."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from menard_unlearn import cli, compose
from menard_unlearn.config import to_plain

STAGE = """
    from pathlib import Path
    from menard_unlearn.files import write_json
    from menard_unlearn.run import RunDir, run_id

    def plan(config, known):
        return RunDir(Path(config["runs_dir"], config["study"], run_id(config, {})))

    def main(cfg):
        from menard_unlearn.config import to_plain
        run = plan(to_plain(cfg), {})
        write_json(run.path / "given.json", to_plain(cfg))
        run.write_manifest("unlearn", config_hash="", inputs={}, seconds=0.0, peak_memory_mb=0.0)
"""

Sweep = Callable[..., list[dict]]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """Sweep a stage that keeps what it is given, under the real conf/unlearn.yaml; gives what was kept of each run."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/keeps_what_it_is_given.py").write_text(textwrap.dedent(STAGE))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(cli, "STAGES", {"unlearn": cli.Stage("keeps_what_it_is_given", "keeps")})

    def call(*arguments: str) -> list[dict]:
        for old in tmp_path.glob("runs/*/*/*.json"):
            old.unlink()
        assert cli.run(["unlearn", "-m", f"runs_dir={tmp_path}/runs", *arguments]) == 0
        return [json.loads(file.read_text()) for file in sorted(tmp_path.glob("runs/*/*/given.json"))]

    return call


def memo(tmp_path: Path) -> list[list]:
    (path,) = tmp_path.glob("runs/*/.sweep/composed.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def keep(tmp_path: Path, rows: list[list]) -> None:
    (path,) = tmp_path.glob("runs/*/.sweep/composed.jsonl")
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_the_memo_holds_what_composing_anew_gives(sweep: Sweep, tmp_path: Path) -> None:
    given = ["method=npo,rmu,undo", "seed=0,1", "trainer.learning_rate=1e-5", "study=forget_1939"]
    first, composed = sweep(*given), memo(tmp_path)
    again = sweep(*given)
    assert len(first) == 6 and first == again and memo(tmp_path) == composed  # the second time it is only read
    kept = {(row[2]["method_name"], row[2]["seed"]): row[2] for row in composed}
    for method in ("npo", "rmu", "undo"):
        for seed in (0, 1):
            arguments = [f"runs_dir={tmp_path}/runs", f"method={method}", f"seed={seed}", *given[2:]]
            anew = to_plain(compose.compose("unlearn", arguments))
            assert kept[method, seed] == anew == json.loads(json.dumps(anew))
            assert anew["trainer"]["learning_rate"] == 1e-5


def test_the_memo_is_read_where_nothing_has_changed_and_not_where_something_has(
    sweep: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more, study = tmp_path / "more/wrapper/mine.yaml", tmp_path / "mine/experiment.yaml"
    for path in (more, study):
        path.parent.mkdir(parents=True)
    more.write_text("null\n")
    more.write_text("# @package _global_\nwindow: ${oc.decode:${oc.env:MENARD_TEST_WINDOW,16}}\n")
    study.write_text("seed: 1\n")
    given = ["seed=3", "+wrapper@_global_=mine", f"study={study.parent}", "--config-dir", str(more.parents[1])]

    def marked() -> bool:
        """Whether the next launch reads the memo, in which a mark is put now."""
        keep(tmp_path, [[files, key, {**config, "window": -1}] for files, key, config in memo(tmp_path)])
        return sweep(*given)[0]["window"] == -1

    assert sweep(*given)[0]["window"] == 16 and marked()
    more.write_text(more.read_text() + "trainer: {warmup_steps: 1}\n")  # a folder of the command line
    assert not marked() and marked()
    study.write_text("seed: 2\n")  # the study's folder
    assert not marked() and marked()
    assert len(memo(tmp_path)) == 1, "what was composed of older files is dropped"
    monkeypatch.setenv("MENARD_TEST_WINDOW", "32")  # a variable that a file reads
    assert sweep(*given)[0]["window"] == 32
    given[0] = "+seen='${oc.env:MENARD_TEST_SEEN,no}'"  # one that an override reads
    assert sweep(*given)[0]["seen"] == "no" and marked()
    monkeypatch.setenv("MENARD_TEST_SEEN", "yes")
    assert sweep(*given)[0]["seen"] == "yes"


@pytest.mark.parametrize(
    "given",
    [
        ["seed=1", "method=npo", "method.beta=3", "trainer={max_steps: 7}", "split.cutoff='1929'"],
        ["trainer.max_steps=5", "method=rmu"],  # a value stands, wherever it is written
        ["+trainer.extra=1", "trainer.extra=2"],
        ["wrapper=sam", "~tuned", "seed=4"],
        ["study=forget_1939", "method=undo", "method.alpha=[1]"],
        ["evaluation.every=2", "model=hf", "model.path=a/b", "target.controls=null"],
    ],
)
def test_values_set_in_a_copy_are_as_hydra_sets_them(sweep: Sweep, tmp_path: Path, given: list[str]) -> None:
    seeds = [argument for argument in given if argument.startswith("seed=")] or ["seed=0"]
    swept = [*(argument for argument in given if argument not in seeds), f"{seeds[0]},9"]
    found = {config["seed"]: config for config in sweep(*swept)}
    for seed in (seeds[0], "seed=9"):
        arguments = [argument for argument in given if argument not in seeds]
        anew = to_plain(compose.compose("unlearn", [f"runs_dir={tmp_path}/runs", *arguments, seed]))
        own = found[anew["seed"]]
        assert {**own, "tracking": {**own["tracking"], "group": None}} == json.loads(json.dumps(anew))


def test_what_hydra_notes_of_a_job_is_seen_by_it(sweep: Sweep, tmp_path: Path) -> None:
    (tmp_path / "more/wrapper").mkdir(parents=True)
    name = "# @package _global_\nwrapper_name: ${hydra:job.override_dirname}\n"
    (tmp_path / "more/wrapper/mine.yaml").write_text(name)
    given = ["+wrapper@_global_=mine", "seed=1,2", "--config-dir", f"{tmp_path}/more"]
    assert all(f"seed={config['seed']}" in config["wrapper_name"] for config in sweep(*given))


@pytest.mark.parametrize("torn", ['["', "[1, 2]\n", "\n", "{}\n"])
def test_a_line_that_a_kill_cut_off_is_composed_anew(sweep: Sweep, tmp_path: Path, torn: str) -> None:
    first = sweep("seed=1")
    (path,) = tmp_path.glob("runs/*/.sweep/composed.jsonl")
    path.write_text(torn)
    assert sweep("seed=1") == first and len(memo(tmp_path)) == 1
