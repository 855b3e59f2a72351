from __future__ import annotations

import json
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from one_of_two import BEGUN_BY_ONE, BEGUN_BY_TWO, BY_TWO, RUNS, SHARED, train_all, train_shared
from tiny_training import method_config, near, tiny_train, wrapper

from menard_unlearn.errors import UserError
from menard_unlearn.models.delta import load_delta
from menard_unlearn.run import RunDir
from menard_unlearn.training.session import Session, Trained
from menard_unlearn.training.torchrun import train_apart

HERE = Path(__file__).parent


def by_two(module: str, run: Path, *arguments: str) -> tuple[Trained, list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    _, config = method_config("npo", processes=2)
    return train_apart([module, *arguments], RunDir(run), config, rows.append), rows


@dataclass(frozen=True)
class Done:
    """What the processes did."""

    folder: Path
    left: int | str | None
    """Exit code after signals to all of them."""
    states: list[str]
    """Of the processes then."""
    killed: UserError
    """What is said when one is killed."""
    seconds: float
    """From its kill to that."""
    trained: Trained
    """The end of the disturbed training."""
    rows: list[dict[str, Any]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """A training that is disturbed twice, and every method and wrapper by one process and by two: each start of
    torchrun takes seconds, so that there are three in all."""
    folder = tmp_path_factory.mktemp("processes")
    run = folder / "disturbed"
    train_shared(folder / BEGUN_BY_ONE, "all tensors", "none", until=1)
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setenv("PYTHONPATH", str(HERE))
        patch.setenv("OMP_NUM_THREADS", "2")
        with pytest.raises(SystemExit) as left:
            by_two("part", run, str(run), json.dumps({"step": 3, "signals": [signal.SIGUSR2, signal.SIGTERM]}))
        states = [Session(RunDir(run)).state(rank) for rank in (0, 1)]
        with pytest.raises(UserError) as killed:
            by_two("part", run, str(run), json.dumps({"step": 8, "kill": 1}))
        seconds = time.time() - RunDir(run).history_path.stat().st_mtime
        two = pool.submit(by_two, "one_of_two", run, str(folder))
        train_all(folder / "plain one")
        for name in SHARED:
            train_shared(folder / "one", name, "none")
        trained, rows = two.result(timeout=280)
    train_shared(folder / BEGUN_BY_TWO, "all tensors", "none")
    return Done(folder, left.value.code, states, killed.value, seconds, trained, rows)


@pytest.fixture(scope="module")
def folder(done: Done) -> Path:
    return done.folder


def test_signals_to_all_processes_save_and_leave(done: Done) -> None:
    """USR2 and then TERM, to torchrun too, of which neither may die."""
    assert done.left in (128 + signal.SIGUSR2, 128 + signal.SIGTERM) and done.states == ["left", "left"]


def test_of_a_killed_process_it_is_told_at_once(done: Done) -> None:
    told = (
        r"process 1 was killed \(.*\); the checkpoint of step \d is kept .*: the same command resumes; see .*output.log"
    )
    assert re.fullmatch(told, str(done.killed)) and done.seconds < 20


def test_after_signals_and_a_kill_the_bits_are_those_of_an_undisturbed_training(done: Done) -> None:
    run = RunDir(done.folder / "disturbed")
    assert done.rows == [row for row in run.read_history() if row["step"] >= done.rows[0]["step"]]
    assert [row["step"] for row in run.read_history() if "loss" in row] == list(range(1, 10))
    found = load_delta(run.delta_path)
    expected = load_delta(done.folder / "undisturbed" / "checkpoints" / "checkpoint-9" / "delta.safetensors")
    assert found.identity == "tiny" and list(found.tensors) == list(expected.tensors)
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())


def test_a_training_that_is_done_is_not_started_again(done: Done) -> None:
    assert done.trained.steps == 9 and done.trained.peak_memory_mb > 100
    begun = time.monotonic()
    run = done.folder / "disturbed"
    assert by_two("part", run, str(run), "{}") == (done.trained, []) and time.monotonic() - begun < 1


def alike(one: Path, two: Path) -> None:
    """Histories, and last checkpoints: weights and optimizer."""
    expected, found = (max(path.glob("checkpoints/**/delta.safetensors")).parent for path in (one, two))
    assert found.name == expected.name and near(RunDir(two).read_history(), RunDir(one).read_history())
    tensors, others = (load_delta(path / "delta.safetensors").tensors for path in (expected, found))
    assert list(tensors) == list(others)
    assert all(torch.allclose(others[key], tensor, atol=1e-5) for key, tensor in tensors.items())
    states, others = (torch.load(path / "optimizer.pt")["state"] for path in (expected, found))
    assert list(states) == list(others)
    for number, state in states.items():
        for key, value in state.items():
            assert type(value) is type(others[number][key]) is torch.Tensor
            assert (others[number][key] - value).norm() <= 1e-3 * value.norm(), (number, key)


@pytest.mark.parametrize("name", RUNS)
def test_mistake_7_two_processes_train_as_one(name: str, folder: Path) -> None:
    """Lengths differ between the processes' shares, so a mean of means would show."""
    one, two = (RunDir(folder / f"plain {count}" / name) for count in ("one", "two"))
    assert near(two.read_history(), one.read_history())
    found, expected = (load_delta(max(run.checkpoints_dir.rglob("delta.safetensors"))).tensors for run in (two, one))
    assert all(torch.allclose(found[key], tensor, atol=1e-5) for key, tensor in expected.items())
    assert len(list(two.checkpoints_dir.rglob("rng_state_[01].pth"))) >= 2


@pytest.mark.parametrize(("kind", "name"), BY_TWO)
def test_sharded_or_not_two_processes_leave_the_files_of_one(kind: str, name: str, folder: Path) -> None:
    alike(folder / "one" / name, folder / kind / name)


@pytest.mark.parametrize("begun", [BEGUN_BY_ONE, BEGUN_BY_TWO])
def test_one_process_ends_what_two_began_and_the_other_way_round(begun: str, folder: Path) -> None:
    run = RunDir(folder / begun / "all tensors")
    assert [row["step"] for row in run.read_history()] == [1, 2, 3]
    alike(folder / "one" / "all tensors", run.path)


def test_what_needs_whole_tensors_is_not_sharded(tmp_path: Path) -> None:
    for method, kind, reason in (
        ("grad_diff", "sam", "wrapper=SAM differentiates more than once a step"),
        ("undo", None, "UNDO has several phases"),
        ("repselect", None, "works on whole gradients"),
    ):
        hooks = {"wrapper": wrapper(kind) if kind else None}
        with pytest.raises(UserError, match=f"trainer.sharding=fsdp2 does not go with this method: .*{reason}"):
            tiny_train(tmp_path, method, sharding="fsdp2", hooks=hooks)
