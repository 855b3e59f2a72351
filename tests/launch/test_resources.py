"""Cores and GPUs that jobs on one machine share; the GPUs are named by a script in nvidia-smi's place."""

from __future__ import annotations

import itertools
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from menard_unlearn.cores import cores, threads
from menard_unlearn.launch.resources import DEVICES, THREADS, claim_gpu, environment, visible_gpus

TWO = "GPU 0: NVIDIA H200 (UUID: GPU-aa)\nGPU 1: NVIDIA H200 (UUID: GPU-bb)\n"
DIVIDED = (
    "GPU 0: NVIDIA A100 (UUID: GPU-aa)\n  MIG 1g.5gb     Device  0: (UUID: MIG-1)\n"
    "  MIG 1g.5gb     Device  1: (UUID: MIG-2)\nGPU 1: NVIDIA A100 (UUID: GPU-bb)\n"
)
JOB = """
import sys, time
from pathlib import Path
from menard_unlearn.launch.resources import claim_gpu

folder, seconds = Path(sys.argv[1]), float(sys.argv[2])
with claim_gpu(folder) as gpu:
    began = time.monotonic()
    print("has", gpu, flush=True)
    time.sleep(seconds)
    print("had", gpu, began, time.monotonic(), flush=True)
assert "torch" not in sys.modules
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*THREADS, "TOKENIZERS_PARALLELISM", DEVICES):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def _smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A driver that lists these GPUs."""
    script = tmp_path / "bin" / "nvidia-smi"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{getattr(request, 'param', TWO)}END\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")


# Cores


def test_jobs_together_have_no_more_threads_than_cores() -> None:
    for count in range(1, 20):
        for jobs in range(1, 20):
            assert threads(count, jobs) >= 1 and (threads(count, jobs) * jobs <= count or threads(count, jobs) == 1)
    assert threads(16, 5) == 3 and threads(8, 8) == 1 and threads(4, 1) == 4


def test_every_slot_has_the_same_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(7)))
    found = [environment(slot, 2) for slot in range(2)]
    assert (
        found[0] == found[1] == dict.fromkeys(THREADS, str(min(3, cores() // 2))) | {"TOKENIZERS_PARALLELISM": "false"}
    )
    with pytest.raises(ValueError, match="slot 2 of 2"):
        environment(2, 2)


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("MKL_NUM_THREADS", "6")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")
    assert environment(0, 4) == {
        "OMP_NUM_THREADS": "5",
        "MKL_NUM_THREADS": "6",
        "OPENBLAS_NUM_THREADS": "5",
        "TOKENIZERS_PARALLELISM": "true",
    }


@pytest.mark.parametrize(
    ("line", "files", "expected"),
    [
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "350000 100000"}, 3),  # the parent's holds, too
        ("0::/a", {"a/cpu.max": "50000 100000"}, 1),
        ("0::/a", {"a/cpu.max": "max 100000"}, 8),
        ("4:cpu,cpuacct:/x", {"cpu/x/cpu.cfs_quota_us": "200000", "cpu/x/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu:/x", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 8),
        ("4:cpu:/of/the/host", {"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ("4:memory:/x", {"memory/x/cpu.max": "100000 100000"}, 8),
        ("0::/a", {}, 8),
    ],
)
def test_a_quota_of_time_counts_as_fewer_cores(
    line: str, files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    (tmp_path / "proc").write_text(f"{line}\n")
    assert cores(tmp_path / "proc", tmp_path) == expected
    assert cores(tmp_path / "none", tmp_path) == 8


def test_the_cores_that_this_process_is_bound_to() -> None:
    some = min(os.sched_getaffinity(0))
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import os; os.sched_setaffinity(0, {{{some}}})\nfrom menard_unlearn.cores import cores; print(cores())",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert told.stdout == "1\n"


# GPUs


@pytest.mark.parametrize(
    ("_smi", "given", "expected"),
    [
        (TWO, None, ["0", "1"]),
        (TWO, "1", ["1"]),
        (TWO, " 1, GPU-aa", ["1", "GPU-aa"]),
        (TWO, "", []),
        (TWO, "-1", []),
        (TWO, "0,-1,1", ["0"]),
        (TWO, "NoDevFiles", []),
        (DIVIDED, None, ["MIG-1", "MIG-2", "1"]),
        ("", None, []),
    ],
    indirect=["_smi"],
)
@pytest.mark.usefixtures("_smi")
def test_the_gpus_are_those_that_cuda_would_see(
    given: str | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if given is not None:
        monkeypatch.setenv(DEVICES, given)
    assert visible_gpus() == expected


def test_without_a_gpu_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no nvidia-smi
    with claim_gpu(tmp_path / "slots") as gpu:
        assert gpu is None
    assert not (tmp_path / "slots").exists()


@pytest.mark.usefixtures("_smi")
def test_a_gpu_is_one_slot_by_whatever_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with claim_gpu(tmp_path / "slots") as first:
        assert first == "0"
        monkeypatch.setenv(DEVICES, "GPU-aa,GPU-bb")
        with claim_gpu(tmp_path / "slots") as second:
            assert second == "GPU-bb"
    with claim_gpu(tmp_path / "slots") as again:
        assert again == "GPU-aa"
    assert len(list((tmp_path / "slots" / platform.node()).iterdir())) == 2


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def begin(folder: Path, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", JOB, str(folder), str(seconds)], stdout=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@pytest.mark.usefixtures("_smi")
def test_no_two_jobs_have_one_gpu_at_a_time(tmp_path: Path, jobs: list[subprocess.Popen[str]]) -> None:
    with claim_gpu(tmp_path / "slots") as one, claim_gpu(tmp_path / "slots") as other:
        assert {one, other} == {"0", "1"}
        jobs += [begin(tmp_path / "slots", 0.3) for _ in range(4)]
        assert all(said(process)[:7] == ["waiting:", "2", "of", "2", "GPUs", "are", "taken"] for process in jobs)
    had = [process.communicate(timeout=60)[0].splitlines()[-1].split() for process in jobs]
    assert all(process.returncode == 0 for process in jobs)
    for gpu in ("0", "1"):
        times = sorted((float(began), float(ended)) for _, name, began, ended in had if name == gpu)
        assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))


@pytest.mark.usefixtures("_smi")
def test_a_killed_job_leaves_its_gpu_to_the_next(
    tmp_path: Path, jobs: list[subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEVICES, "1")
    jobs.append(begin(tmp_path / "slots", 60))
    assert said(jobs[0]) == ["has", "1"]
    jobs.append(begin(tmp_path / "slots", 0))
    assert said(jobs[1])[0] == "waiting:"
    killed = time.monotonic()
    jobs[0].send_signal(signal.SIGKILL)
    assert said(jobs[1]) == ["has", "1"]
    assert time.monotonic() - killed < 20
