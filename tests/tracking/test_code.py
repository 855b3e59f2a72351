"""What is told of the code: its commit, and nothing that is not meant to leave the machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from menard_unlearn.tracking.code import code_version

GIT = ["git", "-c", "user.name=n", "-c", "user.email=e@localhost", "-c", "commit.gpgsign=false"]


@pytest.fixture
def checkout_of_its_own(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text("")
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*GIT, *arguments], cwd=tmp_path, check=True)
    address = "https://someone:hunter2@example.org/repository"
    subprocess.run([*GIT, "remote", "add", "origin", address], cwd=tmp_path, check=True)
    return tmp_path


def test_commit_and_whether_it_was_changed(checkout_of_its_own: Path) -> None:
    folder = checkout_of_its_own
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert code_version(folder) | {"version": ""} == {"version": "", "commit": head.strip(), "dirty": False}
    (folder / "notes.txt").write_text("not tracked, so not code")
    assert code_version(folder)["dirty"] is False
    (folder / "pyproject.toml").write_text("secret = 'abc'")
    assert code_version(folder) | {"version": ""} == {"version": "", "commit": head.strip(), "dirty": True}


def test_folder_without_a_checkout_has_no_commit(tmp_path: Path) -> None:
    assert code_version(tmp_path) | {"version": ""} == {"version": "", "commit": None, "dirty": None}


def test_package_in_another_project_is_not_its_code(checkout_of_its_own: Path) -> None:
    inside = checkout_of_its_own / "environment"
    inside.mkdir()
    assert code_version(inside)["commit"] is None
