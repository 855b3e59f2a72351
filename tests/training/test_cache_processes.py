"""Jobs of a sweep, and the ranks of a job, that fill one cache at the same time: real processes, one of them killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from cached import DOWN, RMU_7, SIDES, SMALL_BLOCKS, Run, config, equal, pair
from filling import CASES, SEEDS
from tiny_training import PAD

from menard_unlearn.corpus.batches import collate
from menard_unlearn.training.layout import Side

SURVIVORS = {"alone": [0], "together": [0, 1, 2, 3], "killed": [1, 2, 3], "ranks": [0, 1]}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of the cases."""
    folder = tmp_path_factory.mktemp("filled")
    script = Path(__file__).parent / "filling.py"
    subprocess.run([sys.executable, str(script), str(folder), *CASES], timeout=240, check=True)
    for case, n in CASES.items():
        codes = json.loads((folder / case / "codes").read_text())
        assert codes == [-9 if case == "killed" and number == 0 else 0 for number in range(n)]
    return folder


@pytest.mark.parametrize("case", CASES)
def test_each_block_is_computed_by_one_process(case: str, filled: Path) -> None:
    """Whatever the order in which they need the blocks; what the killed one had begun is computed by another."""
    written = Counter((filled / case / "log").read_text().splitlines())
    assert len(written) > 20
    assert written == Counter(set((filled / "alone" / "log").read_text().splitlines()))


@pytest.mark.parametrize("case", CASES)
def test_all_processes_make_the_same_steps(case: str, filled: Path) -> None:
    expected = torch.load(filled / "alone" / "0.pt")
    for number in SURVIVORS[case]:
        found = torch.load(filled / case / f"{number}.pt")
        assert all(equal(found[seed], expected[seed]) for seed in SEEDS)


@pytest.mark.parametrize("case", CASES)
def test_what_is_kept_is_what_the_model_says(case: str, filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the bit, of a batch like the block; and all files are the same."""
    monkeypatch.setattr(*SMALL_BLOCKS)
    late, plain = Run(config(filled / case / "cache"), DOWN), Run(config(None), DOWN)
    for items in Side("retain", SIDES["retain"]).blocks:
        batch = collate(items, "retain", PAD)
        (found_ND,), (expected_ND,) = late.frozen.states(batch, [7]), plain.frozen.states(batch, [7])
        assert torch.equal(found_ND, expected_ND)
    late.step(RMU_7, pair(0))
    assert late.filled == 0
    ours, theirs = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*.bin")}
        for root in (filled / case / "cache", filled / "alone" / "cache")
    )
    assert len(ours) == 6 and ours == theirs
