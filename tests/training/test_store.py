"""The files of a cache: what does not fit is seen, whoever wrote it, and what is missing is computed once."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from cached import DOWN, RMU_7, SIDES, SMALL_BLOCKS, Run, config, equal, pair
from tiny_training import ENCODER, PAD, tiny_model

from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.errors import UserError
from menard_unlearn.training import claims, store
from menard_unlearn.training.cache import CachedFrozen, caching
from menard_unlearn.training.store import Store
from menard_unlearn.training.trained import copies, prepare


def rows_of(folder: Path, quantity: str = "states-L7") -> Path:
    (path,) = folder.glob(f"*/*/{quantity}/rows.bin")
    return path


@pytest.mark.parametrize("damage", ["short", "gone", "key", "torn"])
def test_what_does_not_fit_its_key_is_refused_in_one_line(damage: str, tmp_path: Path) -> None:
    Run(config(tmp_path)).step(RMU_7, pair(1))
    (folder,) = tmp_path.glob("*/*/states-L7")
    if damage == "short":
        with open(folder / "rows.bin", "r+b") as file:
            file.truncate(10)
    elif damage == "gone":
        (folder / "checks.bin").unlink()
    elif damage == "key":
        (folder / "key.json").write_text((folder / "key.json").read_text().replace("retain", "regain"))
    else:
        (folder / "key.json").write_text("{")
    with pytest.raises(UserError, match=f"{folder}.*delete") as refused:
        Run(config(tmp_path)).step(RMU_7, pair(1))
    assert "\n" not in str(refused.value)


def test_two_items_of_one_id_are_refused() -> None:
    twice = [TokenItem("a", (1, 5), 1), TokenItem("a", (1, 6), 1)]
    with pytest.raises(UserError, match="two different items of the forget side are called 'a'"):
        caching(config(Path("anywhere")), "base", "float32", {"forget": twice})


def test_other_models_and_items_lie_elsewhere(tmp_path: Path) -> None:
    model, sample = tiny_model(), pair(1).retain
    originals = copies(prepare(model, DOWN))
    half = {"retain": SIDES["retain"][:6]}
    for identity, dtype, sides in (("a", "float32", SIDES), ("b", "float32", SIDES), ("a", "float32", half)):
        caching(config(tmp_path), identity, dtype, sides)(model, originals, sample, ENCODER).states(
            collate(SIDES["retain"][:2], "retain", PAD), [7]
        )
    assert len(list(tmp_path.glob("*/*/states-L7"))) == 3
    assert len(list(tmp_path.glob("*"))) == 2


# What was not written as it should have been


def kept_rows(run: Run, quantity: str, id: str) -> tuple[Path, int]:
    """The file of a quantity of the retain side, and where in it an item's rows begin."""
    assert isinstance(run.frozen, CachedFrozen)
    opened = run.frozen._shelf._open["retain", quantity]
    assert opened is not None
    return opened.folder / "rows.bin", opened.layout.pieces(id)[0][0]


@pytest.mark.parametrize("kind", ["zeros", "bit"])
@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize("quantity", ["states-L7", "prefix-L5-57d95ea7"])
def test_rows_that_do_not_fit_their_check_are_computed_anew(
    kind: str, warm: bool, quantity: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Zeros are what a node sees of rows that another one wrote into a page that it had looked at before.

    Seen by a process that comes anew, and by one that has read the rows when they were whole.
    """
    run, batch = Run(config(tmp_path)), pair(1)
    expected = run.step(RMU_7, batch)
    path, at = kept_rows(run, quantity, batch.retain.ids[0])
    good = path.read_bytes()
    bad = bytes(len(good)) if kind == "zeros" else bytes([*good[:at], good[at] ^ 1, *good[at + 1 :]])
    path.write_bytes(bad)
    if not warm:
        run = Run(config(tmp_path))
    before = run.filled
    assert equal(run.step(RMU_7, pair(1)), expected)
    assert f"in {path.parent} was not as it had been written; computed anew" in capsys.readouterr().out
    assert run.filled == before + 1 and path.read_bytes() == good
    assert equal(Run(config(tmp_path)).step(RMU_7, pair(1)), expected) and not capsys.readouterr().out


def test_a_check_that_was_torn_is_written_anew(tmp_path: Path) -> None:
    expected = Run(config(tmp_path)).step(RMU_7, pair(1))
    checks = rows_of(tmp_path).with_name("checks.bin")
    good = checks.read_bytes()
    checks.write_bytes(b"".join(good[at : at + 4] + bytes(4) for at in range(0, len(good), 8)))
    assert equal(Run(config(tmp_path)).step(RMU_7, pair(1)), expected)
    assert checks.read_bytes() == good


def test_a_disk_that_keeps_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store._write
    monkeypatch.setattr(store, "_write", lambda path, data, at: write(path, bytes(len(data)), at))
    with pytest.raises(UserError, match="does not keep what is written there: set cache.directory") as refused:
        Run(config(tmp_path)).step(RMU_7, pair(1))
    assert "\n" not in str(refused.value)


def test_a_folder_that_goes_away_is_an_error_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*SMALL_BLOCKS)
    run = Run(config(tmp_path))
    first = run.step(RMU_7, pair(1))
    for path in tmp_path.glob("*/*/*/*.bin"):
        path.unlink()
    assert equal(run.step(RMU_7, pair(1)), first)  # which it has open
    with pytest.raises(UserError, match="cannot read .*No such file.* or set cache.directory=null") as refused:
        run.step(RMU_7, pair(2))
    assert "\n" not in str(refused.value)


# Several nodes


class Node(store.Descriptor):
    """A file as another node may see it: what was there when it was opened, and nothing of what came later."""

    def __init__(self, path: Path, flags: int) -> None:
        super().__init__(path, flags)
        self.seen = path.read_bytes()


def seen(file: store.Descriptor, view: memoryview, at: int) -> None:
    assert isinstance(file, Node)
    view[:] = file.seen[at : at + len(view)]


def test_a_node_sees_what_another_one_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(*SMALL_BLOCKS)
    here, there = Run(config(tmp_path)), Run(config(tmp_path))
    for seed in (1, 2, 3):
        expected = here.step(RMU_7, pair(seed))
        with monkeypatch.context() as patch:
            patch.setattr(store, "Descriptor", Node)
            patch.setattr(store, "_read", seen)
            assert equal(there.step(RMU_7, pair(seed)), expected)
    assert there.filled == 0 and here.filled > 10
    assert "computed anew" not in capsys.readouterr().out


def test_writes_are_synchronous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are done by the page on a network file system, and undo what a second node has written beside them."""
    opened, open_it = [], os.open

    def noted(path: Path, flags: int, *more: int) -> int:
        if flags & os.O_ACCMODE == os.O_WRONLY:
            opened.append(flags & os.O_DSYNC == os.O_DSYNC)
        return open_it(path, flags, *more)

    monkeypatch.setattr(os, "open", noted)
    run = Run(config(tmp_path))
    run.step(RMU_7, pair(1))
    assert len(opened) == 6 and all(opened)  # rows and checks of three quantities


# Locks


def test_threads_compute_each_block_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*SMALL_BLOCKS)
    write, written, errors = Store.write, [], []

    def noted(self: Store, block: int, values: Sequence[torch.Tensor]) -> None:
        written.append((self.folder, block))
        write(self, block, values)

    def fill(run: Run, seeds: Sequence[int]) -> None:
        try:
            for seed in seeds:
                run.step(RMU_7, pair(seed))
        except Exception as error:
            errors.append(error)

    monkeypatch.setattr(Store, "write", noted)
    runs = [Run(config(tmp_path)) for _ in range(2)]
    threads = [
        threading.Thread(target=fill, args=(run, seeds))
        for run, seeds in zip(runs, ([1, 2, 3], [3, 2, 1]), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(written) == len(set(written)) > 10
    late, alone = Run(config(tmp_path)), Run(config(tmp_path / "alone"))
    for seed in (1, 2, 3):
        assert equal(late.step(RMU_7, pair(seed)), alone.step(RMU_7, pair(seed)))
    assert late.filled == 0


def test_a_file_system_without_locks_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(*SMALL_BLOCKS)
    expected = Run(config(tmp_path / "with")).step(RMU_7, pair(1))

    def none(_file: object, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    assert equal(Run(config(tmp_path / "without")).step(RMU_7, pair(1)), expected)
    assert capsys.readouterr().out.count("has no file locks (No locks available)") == 2  # of each side


def test_a_lock_that_is_never_let_go_costs_patience_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file server may keep it for a node that went down."""
    monkeypatch.setattr(claims, "PATIENCE_SECONDS", 0.05)
    expected = Run(config(tmp_path / "free")).step(RMU_7, pair(1))
    Run(config(tmp_path / "held")).step(RMU_7, pair(1))
    for path in tmp_path.glob("held/*/*/*/checks.bin"):
        path.write_bytes(bytes(path.stat().st_size))
    locks = [open(path, "ab") for path in tmp_path.glob("held/*/*/.locks/*")]  # noqa: SIM115
    for lock in locks:
        fcntl.flock(lock, fcntl.LOCK_EX)
    run = Run(config(tmp_path / "held"))
    assert equal(run.step(RMU_7, pair(1)), expected) and run.filled > 0
    assert "for 0.05 s; going on" in capsys.readouterr().out
    for lock in locks:
        lock.close()
