"""Without the extra, a published SAE is refused in one line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae_lens import download, refuse_without_extra


def test_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sae_lens", None)
    with pytest.raises(UserError, match=r"pip install 'menard-unlearn\[sae\]'"):
        download("release", "id", tmp_path)
    with pytest.raises(UserError, match="sae-lens is not installed"):
        refuse_without_extra()
