"""The code as it is when jobs are queued.

A job imports what it finds when it starts, which may be days later. It is given a copy of the package made at launch,
named by its contents: all launches of one state of the code share a copy. Large files are linked, not copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from menard_unlearn.config import PACKAGE, conf_dir, experiments_dir
from menard_unlearn.files import digest_files, digest_text

LEFT_OUT = {"__pycache__", ".ruff_cache"}
LINKED_FROM = 100_000
"""Bytes from which a file is linked where the disk allows: weights and data, which nobody edits in place."""


def snapshot(folder: Path) -> Path:
    """Copy the package, its configuration and its studies below `folder`; returns what belongs on PYTHONPATH."""
    trees = {"menard_unlearn": PACKAGE}
    if conf_dir().parent != PACKAGE:  # a checkout keeps these beside the package
        trees["conf"] = conf_dir()
        studies = experiments_dir()
        if studies is not None:
            trees["experiments"] = studies
    files = {Path(name) / file.relative_to(tree): file for name, tree in trees.items() for file in _files(name, tree)}
    digest = digest_text("".join(f"{name}\0{digest_files([file])}\n" for name, file in sorted(files.items())))
    to = folder / digest[:12]
    if to.is_dir():
        return to
    aside = folder / f".{digest[:12]}.{os.getpid()}"
    for name, file in files.items():
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        _place(file, aside / name)
    if "conf" in trees:
        (aside / "pyproject.toml").write_text("")  # by which the package knows a checkout
    try:
        aside.rename(to)
    except OSError:  # another launch was quicker
        shutil.rmtree(aside, ignore_errors=True)
    return to


def _files(name: str, tree: Path) -> list[Path]:
    """All of the package, and of configuration and studies what is composed of."""
    found = [path for path in tree.rglob("*" if name == "menard_unlearn" else "*.yaml") if path.is_file()]
    return [path for path in found if not LEFT_OUT & set(path.relative_to(tree).parts)]


def _place(source: Path, to: Path) -> None:
    if source.stat().st_size >= LINKED_FROM:
        try:
            os.link(source, to)
            return
        except OSError:
            pass  # another disk, or one without links
    shutil.copy2(source, to)
