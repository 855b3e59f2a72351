"""What the real wandb client wrote, read back."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from offline import OfflineRun, read_runs

from menard_unlearn import compose
from menard_unlearn.config import build
from menard_unlearn.errors import UserError
from menard_unlearn.tracking import destination, tracker
from menard_unlearn.tracking.tracker import TrackingConfig

HERE = Path(__file__).parent
NOTHING = {"project": None, "group": None, "tags": [], "checkpoints": "none"}


def scenario(name: str, folder: Path, environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB", "SLURM", "RANK"))}
    paths = [str(HERE.parents[1]), inherited.get("PYTHONPATH", "")]
    # A home of its own: no key of the person who runs the tests is used, and nothing is written there.
    own = {"HOME": str(folder), "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "scenario.py"), name, str(folder), *arguments]
    return subprocess.run(
        command, cwd=folder, env=inherited | own | environ, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> list[OfflineRun]:
    folder = tmp_path_factory.mktemp("two")
    done = scenario("crash_then_whole", folder, {}, "--token=hf_on_the_command_line")
    assert done.returncode == 0, done.stderr
    assert "wandb:" not in done.stdout + done.stderr
    return read_runs(folder / "runs" / "study" / "wandb")


def test_every_row_arrives_once_and_named(two_runs: list[OfflineRun]) -> None:
    rows = two_runs[1].rows("train/loss")
    assert [row["train/step"] for row in rows] == list(range(10))
    assert [row["train/loss"] for row in rows] == list(range(10))
    assert rows[0] == {"train/step": 0, "train/loss": 0, "train/forget": -1, "train/learning_rate": 0.001}
    assert two_runs[1].rows("eval/forget_recall") == [{"train/step": 9, "eval/forget_recall": 0.25}]


def test_config_stays_nested_and_keeps_secrets(two_runs: list[OfflineRun]) -> None:
    assert two_runs[1].config == {
        "method": {"name": "npo", "beta": 0.1, "layers": [1, 2]},
        "model": {"token": "(hidden)"},
    }
    for read in two_runs:
        held = b"".join(path.read_bytes() for path in read.folder.rglob("*") if path.is_file())
        assert b"hf_" not in held
        assert b"printed by the program" not in held


def test_runs_of_one_process_do_not_mix(two_runs: list[OfflineRun]) -> None:
    crashed, whole = two_runs
    assert (crashed.run["run_id"], whole.run["run_id"]) == (f"{1:016x}", f"{2:016x}")
    assert crashed.config["method"]["name"] == "rmu"
    assert [row["train/loss"] for row in crashed.rows("train/loss")] == [100, 101, 102]
    assert (crashed.exit_code, whole.exit_code) == (1, 0)


def test_run_is_filed_where_it_belongs(two_runs: list[OfflineRun]) -> None:
    run = two_runs[1].run
    assert (run["project"], run["run_group"], run["job_type"]) == ("study", "sweep", "unlearn")
    assert (run["display_name"], run["tags"]) == ("npo-s0-0002", ["npo", "suite"])
    assert two_runs[1].metrics["train/*"] == "train/step"
    assert two_runs[1].metrics["curve/*"] == "eval/year"


def test_results_are_charts_tables_and_flat_scalars(two_runs: list[OfflineRun]) -> None:
    whole = two_runs[1]
    curve = [(row["eval/year"], row["curve/recall"]) for row in whole.rows("curve/recall")]
    assert curve == [(1930, 0.9), (1940, 0.1)]
    table = json.loads(whole.media("eval/by_year"))
    assert table["columns"] == ["year", "high", "low", "n", "recall", "width"]
    assert table["data"][1] == [1940, 0.2, 0.05, 40, 0.1, 5]
    assert whole.media("eval/target_tokens") == "<p>ranks only</p>"
    final = {key: value for key, value in whole.summary.items() if key.startswith("final/")}
    assert final == {"final/method": "npo", "final/cutoff_status": "pinned", "final/cutoff_year": 1939.5}
    assert whole.summary["surprisal/level"] == 2.5 and whole.summary["generation/fluency/n_texts"] == 3
    assert not [key for key in whole.summary if key.startswith(("surprisal/years", "generation/fluency/x"))]
    table = json.loads(whole.media("joint/table"))
    assert table["columns"] == ["model", "clamp", "gain"]
    assert table["data"] == [["base", "none", None], ["base", "feature", 0.5]]


def test_delta_is_an_artifact_up_to_a_size(two_runs: list[OfflineRun]) -> None:
    (delta,) = [artifact for artifact in two_runs[1].artifacts if artifact["type"] == "delta"]
    assert delta["name"] == "delta-small"
    assert json.loads(delta["metadata"]) == {"base": "abc"}
    (file,) = delta["manifest"]["contents"]
    assert Path(file["local_path"]).name == "small.safetensors"
    assert Path(file["local_path"]).stat().st_size == 100
    assert "max_artifact_mb=0.001" in two_runs[1].summary["artifact/delta"]


def test_what_a_sync_will_need_lies_with_the_study(two_runs: list[OfflineRun]) -> None:
    tables = [artifact for artifact in two_runs[1].artifacts if artifact["type"] == "run_table"]
    assert len(tables) == 2
    for table in tables:
        (file,) = table["manifest"]["contents"]
        assert Path(file["local_path"]).is_relative_to(two_runs[1].folder.parent)
        assert Path(file["local_path"]).is_file()


def test_sigterm_finishes_the_run(tmp_path: Path) -> None:
    assert scenario("terminated", tmp_path, {}).returncode == 128 + signal.SIGTERM
    (read,) = read_runs(tmp_path / "runs" / "study" / "wandb")
    assert len(read.rows("train/loss")) == 10
    assert read.exit_code == 128 + signal.SIGTERM


@pytest.mark.parametrize("environ", [{"WANDB_MODE": "disabled"}, {"RANK": "1"}])
def test_switched_off_or_second_rank_writes_nothing(tmp_path: Path, environ: dict[str, str]) -> None:
    assert scenario("short", tmp_path, environ).returncode == 0
    assert not (tmp_path / "runs" / "study" / "wandb").exists()


def test_unknown_mode_is_refused_before_any_work() -> None:
    with pytest.raises(UserError, match=r"tracking\.mode='on' .* auto, online, offline, disabled"):
        destination.requested_mode("on", {})


def test_unknown_mode_is_refused_where_the_configuration_is_built() -> None:
    node = {**NOTHING, "_target_": "menard_unlearn.tracking.wandb_config.WandbTracking", "mode": "on"}
    with pytest.raises(UserError, match=r"WandbTracking\.mode: 'on' is not one of auto, online"):
        build({**node, "entity": None, "max_artifact_mb": 1, "directory": None, "finish_timeout": 1}, TrackingConfig)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("project", "'a/b'", r"tracking\.project 'a/b' is no name that wandb takes"),
        ("entity", "''", r"tracking\.entity '' is no name that wandb takes"),
        ("finish_timeout", "-1", "must not be below 0"),
    ],
)
def test_what_wandb_would_refuse_is_refused_before_any_work(key: str, value: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        build(compose.compose("unlearn", [f"tracking.{key}={value}"])["tracking"], TrackingConfig)


def test_environment_decides_only_where_the_configuration_leaves_it_open() -> None:
    assert destination.requested_mode("auto", {"WANDB_MODE": "offline"}) == "offline"
    assert destination.requested_mode("online", {"WANDB_MODE": "offline"}) == "online"


def test_key_is_found_in_environment_and_netrc(tmp_path: Path) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine wandb.example.org login user password 0123\n")
    path.chmod(0o600)
    assert destination.has_key("https://wandb.example.org", {"NETRC": str(path)})
    assert not destination.has_key("https://other.example.org", {"NETRC": str(path)})
    assert destination.has_key("https://other.example.org", {"WANDB_API_KEY": "x"})


def test_handler_that_is_already_installed_is_kept() -> None:
    def own(number: int, frame: object) -> None:
        pass

    before = signal.signal(signal.SIGTERM, own)
    try:
        with tracker._sigterm_unwinds():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)


def test_default_handler_is_restored() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with tracker._sigterm_unwinds():
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
