"""The package works where it is installed, not only where it was written."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from menard_unlearn import cli

STUDY = "experiments/packaged/experiment.yaml"


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without network from a copy of the checkout that has one more study."""
    pytest.importorskip("hatchling")
    copy, out = tmp_path_factory.mktemp("copy") / "menard", tmp_path_factory.mktemp("dist")
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "menard_unlearn", "conf", "experiments", ".gitignore"):
        if (checkout / name).exists():
            (copy / name).symlink_to(checkout / name)
    if (copy / "experiments").is_symlink():
        (copy / "experiments").unlink()
    (copy / STUDY).parent.mkdir(parents=True)
    (copy / STUDY).write_text("# @package _global_\nseed: 7\n")
    for study in (checkout / "experiments").glob("*"):
        (copy / "experiments" / study.name).symlink_to(study)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what pip makes of the wheel; the dependencies are the running interpreter's."""
    target = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True, capture_output=True, text=True)
    return target


def call(code: str, path: Path, cwd: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_wheel_holds_code_data_conf_and_studies(wheel: Path, checkout: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("menard_unlearn", "conf"):
        for path in (checkout / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith("."):
                inside = path.relative_to(checkout).as_posix()
                assert inside.replace("conf/", "menard_unlearn/conf/", 1) in names or inside in names
    assert f"menard_unlearn/{STUDY}" in names
    stray = {name.split("/")[0] for name in names} - {"menard_unlearn"}
    assert all(name.endswith(".dist-info") for name in stray)
    assert not any(
        "__pycache__" in name or name.endswith((".pyc", "README.md")) for name in names if "experiments" in name
    )


@pytest.mark.parametrize("place", ["checkout", "wheel"])
def test_menard_finds_conf_and_studies(place: str, installed: Path, checkout: Path, tmp_path: Path):
    root = checkout if place == "checkout" else installed
    code = (
        "import menard_unlearn.config as c; print(c.__file__); print(c.conf_dir()); print(c.experiments_dir())\n"
        "from menard_unlearn.cli import main; main(['unlearn', '--help'{}])"
    ).format(", 'study=packaged'" if place == "wheel" else "")
    file, conf, studies, *help_ = call(code, root, tmp_path).splitlines()
    assert file.startswith(str(root)) and conf.startswith(str(root))
    text = "\n".join(help_)
    assert "method: adaptive_rmu, alt_po, ce_u" in text and "cutoff: '1939-12-31'" in text
    if place == "wheel":
        assert studies.startswith(str(root)) and "seed: 7" in text
    assert list(tmp_path.iterdir()) == []


def test_constraints_name_versions_and_never_hosts(checkout: Path):
    lines = [line for line in (checkout / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    assert lines and all(
        line.count("==") == 1 and "/" not in line and "+" not in line and "@" not in line for line in lines
    )
    constrained = {line.split("==")[0].lower() for line in lines}
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    needed = {requirement.split(">")[0].lower() for requirement in project["dependencies"]}
    assert needed <= constrained


def test_every_stage_has_its_module_and_its_configuration(checkout: Path):
    for name, stage in cli.STAGES.items():
        module = checkout / stage.module.replace(".", "/")
        assert module.with_suffix(".py").is_file() or (module / "__init__.py").is_file()
        assert not stage.composed or (checkout / "conf" / f"{name}.yaml").is_file()
