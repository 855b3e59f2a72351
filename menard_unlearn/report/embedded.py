"""The package's own files, as a page holds them."""

from __future__ import annotations

import base64
import gzip
from functools import cache
from importlib.resources import files


@cache
def asset(name: str) -> str:
    """A file of `assets/`."""
    return files("menard_unlearn.report").joinpath("assets", name).read_text(encoding="utf-8")


@cache
def packed(name: str) -> str:
    """A file of `assets/`, compressed, in letters that need no escaping: plotly takes 0.5 MB so, not 1.2."""
    return base64.b64encode(gzip.compress(asset(name).encode(), 9, mtime=0)).decode()
