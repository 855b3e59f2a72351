"""Content digests, and writes that happen whole or not at all."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def from_here(path: str | Path) -> str:
    """The path as it is typed here: relative where it lies below, else as it is."""
    return os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else str(path)


def canonical(value: Any) -> str:
    """One text for equal values: neither the order of keys nor 1 instead of 1.0 changes it."""
    return json.dumps(_normal(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def _normal(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _normal(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_normal(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return str(value) if isinstance(value, Path) else value


def digest_text(text: str) -> str:
    """SHA-256 of the UTF-8 text, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def digest_file(path: str | Path) -> str:
    """SHA-256 of the file's bytes, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(paths: Iterable[str | Path]) -> str:
    """SHA-256 over names and contents; the files' order and their folder do not matter."""
    return digest_text(canonical(sorted([Path(path).name, digest_file(path)] for path in paths)))


def write_json(path: str | Path, obj: Any) -> None:
    """Write the object so that the path holds either what it held before or all of the new text.

    NaN and infinity have no JSON form and no reader expects them: ValueError naming the place.
    """
    refuse_nan(obj)
    replace(Path(path), (json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode())


def refuse_nan(obj: Any, where: str = "") -> None:
    """ValueError naming the first place that holds NaN or infinity."""
    if isinstance(obj, float) and not math.isfinite(obj):
        raise ValueError(f"{where or 'value'} is {obj}: store null and a status instead")
    pairs = obj.items() if isinstance(obj, Mapping) else enumerate(obj) if isinstance(obj, list | tuple) else ()
    for key, value in pairs:
        refuse_nan(value, f"{where}.{key}" if where else str(key))


def replace(path: Path, data: bytes) -> None:
    """Write aside in the same folder, flush to the disk, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # On a disk that several hosts share, the number alone would be that of another process, too
    aside = path.with_name(f".{path.name}.{os.getpid()}@{platform.node()}.aside")
    try:
        with open(aside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)
    # The rename itself is durable only once the folder is.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
