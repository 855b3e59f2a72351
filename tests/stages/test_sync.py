"""A study that was tracked offline, brought to a server and looked at there."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from loopback import Loopback, ServedArtifact, ServedRun, healthy
from test_privacy import told
from test_told import checkpoint
from tiny_study import Study, read
from tracked_worker import QUICK

from menard_unlearn import compose
from menard_unlearn.errors import UserError
from menard_unlearn.run import RunDir
from menard_unlearn.stages import logging as stage_logging
from menard_unlearn.stages.job import Job
from menard_unlearn.stages.settings import Settings
from menard_unlearn.tracking.tracker import identity, named

TRACKED = {"tracking": "wandb", "tracking__mode": "offline", "tracking__group": "sweep"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    with Loopback() as server, pytest.MonkeyPatch.context() as patch:
        for key, value in {"HOME": str(tmp_path_factory.mktemp("home")), **QUICK, **server.environ}.items():
            patch.setenv(key, value)
        wandb.teardown()  # what an earlier test said of another server is forgotten
        yield server
        wandb.teardown()


@pytest.fixture(scope="module")
def offline(service: Loopback, study: Study, finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, tracked as its stage does it; no test may change it."""
    runs = tmp_path_factory.mktemp("offline")
    text = shutil.copy(study.target, runs / "my secret text.txt")
    command = study.unlearning(runs, target__path=f"'{text}'", **TRACKED)
    job = Job.of(Settings.of(compose.compose("unlearn", command[1:])))
    shutil.copytree(finished, job.run.path, ignore=shutil.ignore_patterns("wandb*"))
    job.run.write_config(job.prepared.settings.plain)
    prepared = job.prepared
    about = (job.run, job.identity, "npo", "unlearn", prepared.inputs, prepared.data)
    with stage_logging.track(prepared.settings, *about) as tracking:
        for row in job.run.read_history():
            tracking.log(row)
        tracking.results()
    return job.run.path


@pytest.fixture
def server(service: Loopback) -> Iterator[Loopback]:
    service.start()
    service.fault = healthy
    for held in (service.runs, service.artifacts, service.blobs):
        held.clear()
    service.used.clear()
    yield service
    assert (service.unknown, service.errors) == ([], [])


@pytest.fixture
def run(offline: Path) -> Iterator[Path]:
    """The run as it was before anything was uploaded."""
    study_dir = offline.parent
    kept = study_dir.with_name("kept")
    shutil.copytree(study_dir, kept, symlinks=True)
    yield offline
    shutil.rmtree(study_dir)
    kept.rename(study_dir)


def synced(run: Path) -> None:
    compose.run("sync", "menard_unlearn.stages.sync", [f"study_dir='{run.parent}'", "seconds=10"])


def of_type(server: Loopback, kind: str) -> list[ServedArtifact]:
    return [artifact for artifact in server.artifacts.values() if artifact.type == kind]


def rows(served: ServedRun) -> Counter[str]:
    return Counter(identity({key: v for key, v in row.items() if not key.startswith("_")}) for row in served.history)


def all_there(server: Loopback, run: Path) -> None:
    (served,) = server.runs.values()
    found = rows(served)
    logged = [identity(named(row)) for row in RunDir(run).read_history()]
    assert logged and all(found[row] == 1 for row in logged)
    assert len(served.rows("curve/recall")) == len(read(run / "evaluation/curve.json")["bins"]) > 0
    (delta,) = of_type(server, "delta")
    assert delta.state == "COMMITTED" and delta.files == {"delta.safetensors": (run / "delta.safetensors").read_bytes()}
    assert "COMMITTED" in {table.state for table in of_type(server, "run_table")}
    assert served.summary["final/method"] == "npo" and served.summary["final/seed"] == 0
    (data,) = of_type(server, "dataset")
    assert data.state == "COMMITTED" and (served.name, data.id) in server.used


def test_offline_run_is_uploaded_and_verified(server: Loopback, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synced(run)
    said = capsys.readouterr().out
    assert "uploaded" in said and "all there, each once; 1 uploaded" in said
    all_there(server, run)
    (served,) = server.runs.values()
    assert (served.group, served.job_type, served.exit_code) == ("sweep", "unlearn", 0)
    assert served.config["code"]["value"].keys() == {"version", "commit", "dirty"}
    assert served.config["trainer"]["value"]["max_steps"] == 6
    synced(run)
    assert "all there, each once; nothing to upload" in capsys.readouterr().out
    all_there(server, run)


def test_nothing_tells_the_target(server: Loopback, run: Path) -> None:
    synced(run)
    (served,) = server.runs.values()
    sent = [line for stream in served.lines.values() for line in stream.values()]
    sent += [str(served.config), str(served.summary)]
    sent += [body.decode(errors="ignore") for body in server.blobs.values()]
    assert len(server.blobs) > 3
    assert [told(text) for text in sent if told(text)] == []
    assert not any("my secret text" in text for text in sent)


def test_staged_bytes_that_are_gone_are_found_out_and_sent_again(server: Loopback, run: Path) -> None:
    shutil.rmtree(run.parent / "wandb" / "staged")
    synced(run)
    all_there(server, run)


def test_wandbs_own_file_that_is_gone_is_not_missed(server: Loopback, run: Path) -> None:
    shutil.rmtree(run.parent / "wandb")
    synced(run)
    all_there(server, run)


def test_upload_that_broke_off_is_completed_without_repeats(server: Loopback, run: Path) -> None:
    synced(run)
    (served,) = server.runs.values()
    history = served.lines["wandb-history.jsonl"]
    for offset in sorted(history)[4:]:
        del history[offset]
    for log in run.parent.glob("wandb/offline-run-*/run-*.wandb.synced"):
        log.unlink()  # as if `wandb sync` had been killed
    synced(run)
    all_there(server, run)


def test_what_does_not_arrive_is_an_error_that_names_it(
    server: Loopback, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = lambda kind, name: 403 if kind == "put" and "delta" in name else None
    with pytest.raises(UserError, match=f"1 of 1 runs are not all on .*{run.name}"):
        synced(run)
    assert f"NOT ALL THERE: no artifact delta-{run.name}" in capsys.readouterr().out
    server.fault = healthy
    synced(run)
    all_there(server, run)


def test_server_that_goes_away_meanwhile_is_one_line(server: Loopback, run: Path) -> None:
    server.fault = lambda kind, name: 404 if name == "RunParquetHistory" else None
    with pytest.raises(UserError, match="stopped answering.*the same command goes on") as refused:
        synced(run)
    assert "\n" not in str(refused.value)
    server.fault = healthy
    synced(run)
    all_there(server, run)


def test_run_whose_end_the_server_was_not_told_is_ended(
    server: Loopback, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report is of finished runs: one that was killed after its last row is not left out of it."""
    synced(run)
    (served,) = server.runs.values()
    served.exit_code = None
    capsys.readouterr()
    synced(run)
    assert served.exit_code == 0 and "1 uploaded" in capsys.readouterr().out
    synced(run)
    assert "nothing to upload" in capsys.readouterr().out
    all_there(server, run)


def test_rows_that_are_there_twice_are_an_error(
    server: Loopback, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synced(run)
    (served,) = server.runs.values()
    history = served.lines["wandb-history.jsonl"]
    history[len(history)] = history[2]
    with pytest.raises(UserError, match="1 of 1 runs"):
        synced(run)
    assert "twice the row of step 3" in capsys.readouterr().out


def test_checkpoints_go_when_the_delta_is_there(server: Loopback, run: Path) -> None:
    record = run / "wandb.json"
    record.write_text(record.read_text().replace('"checkpoints": "none"', '"checkpoints": "last"'))
    manifest = (run / "unlearn.manifest.json").rename(run / "kept.json")
    for step in (2, 4):
        checkpoint(run, step)
        synced(run)
    newest = [artifact.aliases for artifact in of_type(server, "checkpoint")]
    assert newest == [["latest", "step-4"]]
    manifest.rename(run / "unlearn.manifest.json")
    synced(run)
    assert of_type(server, "checkpoint") == []
    all_there(server, run)


def test_before_any_work(server: Loopback, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = sorted(run.rglob("*"))
    with monkeypatch.context() as patch:
        patch.delenv("WANDB_API_KEY")
        with pytest.raises(UserError, match="no key for http.*: type wandb login, or set WANDB_API_KEY"):
            synced(run)
    server.stop()
    with pytest.raises(UserError, match="127.0.0.1:.* does not answer"):
        synced(run)
    server.start()
    server.fault = lambda kind, name: 401
    with pytest.raises(UserError, match="refuses.*WANDB_API_KEY"):
        synced(run)
    with pytest.raises(UserError, match="no folder .*give runs/<study>"):
        synced(tmp_path / "nowhere" / "run")
    with pytest.raises(UserError, match=f"is a run: type menard sync {run.parent}, its study"):
        synced(run / "evaluation")
    with pytest.raises(UserError, match=f"holds studies: give one of .*{run.parent}"):
        synced(run.parent)
    with pytest.raises(UserError, match="one study at a time: type menard sync a"):
        compose.run("sync", "menard_unlearn.stages.sync", ["study_dir=[a,b]"])
    assert sorted(run.rglob("*")) == before and server.runs == {}


def test_nothing_tracked_is_nothing_to_do(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synced(finished)
    assert "nothing to do" in capsys.readouterr().out


def test_run_that_is_going_on_is_left_alone(server: Loopback, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with RunDir(run).lock():
        synced(run)
    assert "left alone" in capsys.readouterr().out and server.runs == {}
