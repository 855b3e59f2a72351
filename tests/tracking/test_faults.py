"""Training goes on whatever becomes of wandb, and in the end every row is on the server once: with the real client."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wandb
from loopback import Loopback, ServedRun, healthy
from omegaconf import OmegaConf
from tracked_worker import QUICK, Worker, directory, worker

from menard_unlearn.run import RunDir
from menard_unlearn.stages import sync
from menard_unlearn.tracking.tracker import identity, named

LOG_SECONDS = 5.0
"""What ten rows may cost while wandb is in trouble, on a busy machine; a row costs half a millisecond, and a call that
waits for a server or for wandb-core waits for longer than this."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    """One server for all: this process's wandb keeps the first address that it is told."""
    with Loopback() as server, pytest.MonkeyPatch.context() as patch:
        own = {"HOME": str(tmp_path_factory.mktemp("home")), **QUICK, **server.environ}
        for key, value in own.items():
            patch.setenv(key, value)
        yield server
        wandb.teardown()


@pytest.fixture
def server(service: Loopback) -> Iterator[Loopback]:
    service.start()
    service.fault = healthy
    service.runs.clear()
    yield service
    assert (service.unknown, service.errors) == ([], [])


def wait(until: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def served(server: Loopback, number: int = 1) -> ServedRun:
    return server.runs[f"study/{number:016x}"]


def rows(run: ServedRun | None) -> Counter[str]:
    history = [] if run is None else run.history
    return Counter(identity({key: v for key, v in row.items() if not key.startswith("_")}) for row in history)


def logged(folder: Path, number: int = 1) -> Counter[str]:
    return Counter(identity(named(row)) for row in RunDir(directory(folder, number)).read_history())


def synced(folder: Path) -> None:
    sync.main(OmegaConf.create({"study_dir": str(folder / "runs" / "study"), "seconds": 10}))


def all_there(server: Loopback, folder: Path) -> bool:
    return rows(served(server)) == logged(folder)


def went_on(run: Worker, command: str = "log 10") -> None:
    assert run.do(command) < LOG_SECONDS


def test_down_at_start(server: Loopback, tmp_path: Path) -> None:
    server.stop()
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        code, _, said = run.end()
    assert code == 0 and "does not answer" in said
    server.start()
    assert server.runs == {}
    synced(tmp_path)
    assert all_there(server, tmp_path) and len(logged(tmp_path)) == 12


def test_down_in_the_middle_and_back(server: Loopback, tmp_path: Path) -> None:
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        wait(lambda: all_there(server, tmp_path))
        server.stop()
        went_on(run)
        server.start()
        went_on(run)
        code, _, _ = run.end()
    assert code == 0 and all_there(server, tmp_path) and served(server).exit_code == 0


def test_down_in_the_middle_until_the_end(server: Loopback, tmp_path: Path) -> None:
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        wait(lambda: all_there(server, tmp_path))
        server.stop()
        went_on(run)
        code, seconds, said = run.end()
    assert code == 0 and seconds < 60  # finish_timeout is 2
    assert "export" not in said  # wandb's own telemetry
    server.start()
    assert not all_there(server, tmp_path)
    synced(tmp_path)
    assert all_there(server, tmp_path)


def test_503_throughout_and_back(server: Loopback, tmp_path: Path) -> None:
    server.fault = lambda kind, name: 503 if kind == "stream" else None
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        code, seconds, _ = run.end()
    assert code == 0 and seconds < 60
    assert rows(served(server)) == Counter()
    server.fault = healthy
    synced(tmp_path)
    assert all_there(server, tmp_path)


def test_503_at_the_start(server: Loopback, tmp_path: Path) -> None:
    """The server accepts the connection and nothing else: the run begins offline when `INIT_SECONDS` are over."""
    server.fault = lambda kind, name: 503 if kind == "graphql" else None
    with worker(tmp_path, 1, server.environ | {"TEST_INIT_SECONDS": "3"}) as run:
        went_on(run)
        code, _, said = run.end()
    assert code == 0 and "wandb did not open (auto)" in said and server.runs == {}
    server.fault = healthy
    synced(tmp_path)
    assert all_there(server, tmp_path) and len(logged(tmp_path)) == 12


def test_rejected_key(server: Loopback, tmp_path: Path) -> None:
    server.fault = lambda kind, name: 401 if kind == "graphql" else None
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        code, _, said = run.end()
    assert code == 0 and "wandb did not open" in said and server.runs == {}
    server.fault = healthy
    synced(tmp_path)
    assert all_there(server, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_wandb_core_that_is_killed_or_hangs(server: Loopback, tmp_path: Path, number: int) -> None:
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        run.do(f"core {number}")
        went_on(run)
        went_on(run)
        code, seconds, said = run.end()
    assert code == 0 and seconds < 60
    assert said.count("the run goes on") == 1 and ("left behind" in said) == (number == signal.SIGSTOP)
    synced(tmp_path)
    assert all_there(server, tmp_path) and len(logged(tmp_path)) == 37


def test_sigterm_delivers_what_was_logged(server: Loopback, tmp_path: Path) -> None:
    with worker(tmp_path, 1, server.environ) as run:
        went_on(run)
        code, _ = run.signalled(signal.SIGTERM)
    assert code == 128 + signal.SIGTERM == served(server).exit_code
    assert all_there(server, tmp_path)


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_sigterm_and_requeue(server: Loopback, tmp_path: Path, mode: str) -> None:
    """A training saves when it is told to stop: the next session repeats no step."""
    environ = server.environ | {"WANDB_MODE": mode}
    with worker(tmp_path, 1, environ) as run:
        went_on(run)
        assert run.signalled(signal.SIGTERM)[0] == 128 + signal.SIGTERM
    with worker(tmp_path, 1, environ) as run:
        went_on(run)
        assert run.end()[0] == 0
    if mode == "offline":
        synced(tmp_path)
    assert all_there(server, tmp_path) and len(logged(tmp_path)) == 25
    assert served(server).exit_code == 0


def written(folder: Path) -> bool:
    """Whether wandb's own file holds the rows."""
    (log,) = folder.glob("runs/study/wandb/offline-run-*/run-*.wandb")
    return b"forget_recall" in log.read_bytes()


@pytest.mark.parametrize(
    ("mode", "safe"), [("online", all_there), ("offline", lambda server, folder: written(folder)), ("offline", None)]
)
def test_sigkill_and_requeue(
    server: Loopback, tmp_path: Path, mode: str, safe: Callable[[Loopback, Path], bool] | None
) -> None:
    """The rows had arrived, or were in wandb's file, or were lost, when the process was killed."""
    environ = server.environ | {"WANDB_MODE": mode}
    with worker(tmp_path, 1, environ) as run:
        went_on(run)
        if safe is not None:
            wait(lambda: safe(server, tmp_path))
        run.signalled(signal.SIGKILL)
    with worker(tmp_path, 1, environ) as run:
        run.do("back 6")
        went_on(run)
        assert run.end()[0] == 0
    if mode == "online":
        assert all_there(server, tmp_path)
    synced(tmp_path)
    assert all_there(server, tmp_path) and max(logged(tmp_path).values()) == 1


def test_second_sync_does_nothing(server: Loopback, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with worker(tmp_path, 1, server.environ | {"WANDB_MODE": "offline"}) as run:
        went_on(run)
        run.end()
    synced(tmp_path)
    assert "1 uploaded" in capsys.readouterr().out
    before = server.operations.copy()
    synced(tmp_path)
    assert "all there, each once; nothing to upload" in capsys.readouterr().out
    assert {name for name, count in server.operations.items() if count > before[name]} <= {
        *("Viewer", "GetDefaultEntity", "ServerFeaturesQuery"),
        *("Run", "RunHistoryKeys", "RunParquetHistory", "HistoryPage", "RunOutputArtifacts", "RunInputArtifacts"),
    }
    assert all_there(server, tmp_path)
