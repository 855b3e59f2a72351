from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from one_of_two import METHODS, train_all

from menard_unlearn.models.delta import load_delta
from menard_unlearn.run import RunDir

HERE = Path(__file__).parent


def test_mistake_7_two_processes_train_as_one(tmp_path: Path) -> None:
    """Lengths differ between the processes' shares, so a mean of means would show."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    shared = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, str(HERE / "one_of_two.py"), str(tmp_path / "two")]
    processes = [
        subprocess.Popen(
            command, env=os.environ | shared | {"RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    train_all(tmp_path / "one")
    for process in processes:
        _, stderr = process.communicate(timeout=200)
        assert process.returncode == 0, stderr
    for name in METHODS:
        one, two = RunDir(tmp_path / "one" / name), RunDir(tmp_path / "two" / name)
        for row, expected in zip(two.read_history(), one.read_history(), strict=True):
            assert row == pytest.approx(expected, rel=1e-5, abs=1e-5)
        found, expected = (
            load_delta(run.checkpoints_dir / "checkpoint-3" / "delta.safetensors").tensors for run in (two, one)
        )
        assert all(torch.allclose(found[key], tensor, atol=1e-5) for key, tensor in expected.items())
        assert {path.name for path in two.checkpoints_dir.glob("checkpoint-3/rng*")} == {
            "rng_state_0.pth",
            "rng_state_1.pth",
        }
