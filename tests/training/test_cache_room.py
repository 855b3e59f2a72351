"""How much room a cache may take."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from cached import RMU_7, Run, config, near, pair
from omegaconf import OmegaConf

from menard_unlearn.config import conf_dir
from menard_unlearn.training.cache import CacheConfig


def test_what_finds_no_room_is_computed_and_a_line_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = Run(config(None))
    full = Run(config(tmp_path / "full"))
    expected = full.step(RMU_7, pair(1))
    sizes = {p.parent.name: p.stat().st_size for p in tmp_path.glob("full/*/*/*/rows.bin")}
    assert "takes up to" in capsys.readouterr().out
    tight = Run(config(tmp_path / "tight", max_gb=(min(sizes.values()) - 1) / 1e9))
    for seed in (1, 2):
        assert near(tight.step(RMU_7, pair(seed)), plain.step(RMU_7, pair(seed)))
    said = capsys.readouterr().out
    assert said.count("states-L7 of retain needs") == 1 and "set cache.max_gb=" in said
    assert not (tmp_path / "tight").exists()
    smaller = Run(config(tmp_path / "smaller", max_gb=0.000015))
    assert near(smaller.step(RMU_7, pair(1)), expected)
    assert sorted({p.parent.name for p in tmp_path.glob("smaller/*/*/*/rows.bin")}) == ["prefix-L5", "states-L7"]


def test_a_full_disk_is_seen_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10, 0, 10))
    Run(config(tmp_path)).step(RMU_7, pair(1))
    assert "1e-08 GB are free: set cache.directory" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_the_preset_is_built() -> None:
    preset = OmegaConf.load(conf_dir() / "cache" / "default.yaml")
    assert set(preset) - {"_target_"} == {field.name for field in dataclasses.fields(CacheConfig)}
    with pytest.raises(ValueError, match="max_gb -1 must not be below 0"):
        CacheConfig(None, -1, None)
    with pytest.raises(ValueError, match="kl_top_k 0 must be at least 1"):
        CacheConfig(None, 1, 0)
