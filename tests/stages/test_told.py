"""What a run's directory tells a tracker of a training that has not ended."""

from __future__ import annotations

from pathlib import Path

from menard_unlearn.run import RunDir
from menard_unlearn.stages.told import replay
from menard_unlearn.tracking.content import Collector


def checkpoint(run: Path, step: int) -> None:
    folder = run / "checkpoints" / f"checkpoint-{step}"
    folder.mkdir(parents=True)
    (folder / "delta.safetensors").write_bytes(b"0" * step)
    (folder / "complete.json").write_text(
        f'{{"seconds": 1.0, "stopped": null, "files": {{"delta.safetensors": {step}}}}}'
    )


def test_rules_for_checkpoints_of_a_run_that_was_stopped(tmp_path: Path) -> None:
    for step in (2, 4):
        checkpoint(tmp_path, step)
    state = tmp_path / "checkpoints/checkpoint-4/trainer_state.json"
    state.write_text('{"best_global_step": 2}')
    run, chosen = RunDir(tmp_path), {}
    for rule in ("none", "last", "best"):
        collector = Collector()
        assert not replay(run, "unlearn", rule, collector)
        chosen[rule] = [item.value[2]["step"] for item in collector.items]
    assert chosen == {"none": [], "last": [4], "best": [2]}
