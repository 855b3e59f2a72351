"""Which code ran: enough to find it again, and nothing that is not meant to leave the machine."""

from __future__ import annotations

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

GIT_SECONDS = 5.0


def code_version(root: Path | None = None) -> dict[str, Any]:
    """Version of the package, commit of the checkout that it runs from, and whether tracked files differ from it.

    Commit and `dirty` are null where there is no checkout or no git. Neither the differences nor the address of a
    remote are looked at: the one is unpublished work, the other may hold a password.
    """
    folder = Path(__file__).resolve().parents[2] if root is None else root
    try:
        version = importlib.metadata.version("menard-unlearn")
    except importlib.metadata.PackageNotFoundError:
        version = None
    # a package that is installed into an environment inside some other repository is not that repository's code
    own = (folder / "pyproject.toml").is_file()
    commit = _git(folder, "rev-parse", "HEAD") if own else None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no") if commit else None
    return {"version": version, "commit": commit, "dirty": None if changed is None else bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
