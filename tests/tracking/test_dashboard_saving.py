"""`menard dashboard`: saved on a server of this machine by the real client, and what is said where that fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import wandb
from dashboard_server import DashboardServer

from menard_unlearn import cli
from menard_unlearn.tracking import dashboard_saving


@pytest.fixture
def quiet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A place of its own for what wandb writes, and a client that reads the environment anew."""
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    wandb.teardown()
    yield monkeypatch
    wandb.teardown()


@pytest.fixture
def server(quiet: pytest.MonkeyPatch) -> Iterator[DashboardServer]:
    with DashboardServer(projects={"loopback/study", "lab/study"}) as server:
        for name, value in server.environ.items():
            quiet.setenv(name, value)
        yield server
        assert server.unknown == [] and server.errors == []


def test_saved_once_and_then_brought_up_to_date(
    server: DashboardServer, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["dashboard", "study"]) == 0
    first = capfd.readouterr()
    assert first.err == "" and first.out == (
        f"workspace made: {server.url}/loopback/study?nw=menardboard\n"
        f"report made: {server.url}/loopback/study/reports/Methods-compared--Vmlldzoy\n"
    )
    server.views["Vmlldzox"]["spec"] = "{}"
    assert cli.run(["dashboard", "study", "to=written"]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[:2] == ["written/workspace.json", "written/report.json"]
    assert lines[2:] == [line.replace("made", "updated") for line in first.out.splitlines()]
    assert len(server.views) == 2
    for view, kind in zip(server.views.values(), ("workspace", "report"), strict=True):
        assert json.loads(view["spec"]) == json.loads((tmp_path / f"written/{kind}.json").read_text())
        assert (view["entityName"], view["projectName"]) == ("loopback", "study")
    assert cli.run(["dashboard", "study", "entity=lab"]) == 0
    assert len(server.views) == 4 and "/lab/study" in capfd.readouterr().out
    assert server.operations["upsertView"] == 6


def test_a_view_of_another_name_is_left_alone(server: DashboardServer) -> None:
    others = {"entityName": "loopback", "projectName": "study", "name": "nw-ofsomeoneel-v", "spec": "{}"}
    server.views["mine"] = {**others, "id": "mine", "type": "project-view"}
    assert cli.run(["dashboard", "study"]) == 0
    assert len(server.views) == 3 and server.views["mine"]["spec"] == "{}"


def said(capfd: pytest.CaptureFixture[str]) -> str:
    """The one line of an error."""
    (line,) = capfd.readouterr().err.splitlines()
    return line


def test_a_project_that_is_not_there(server: DashboardServer, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["dashboard", "studdy"]) == 2
    assert said(capfd).startswith(f"error: no project loopback/studdy on 127.0.0.1:{server.port}: give the one that")
    assert server.views == {}


def test_a_bad_key(server: DashboardServer, quiet: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    server.fault = lambda kind, name: 401
    assert cli.run(["dashboard", "study"]) == 2
    line = said(capfd)
    assert line.startswith(f"error: not saved to 127.0.0.1:{server.port}:") and "wandb login --relogin" in line
    quiet.setenv("WANDB_API_KEY", "short")
    assert cli.run(["dashboard", "study"]) == 2
    line = said(capfd)
    assert "40+ characters" in line and "short" not in line


def test_a_server_that_refuses_half_way(server: DashboardServer, capfd: pytest.CaptureFixture[str]) -> None:
    server.fault = lambda kind, name: 403 if name == "upsertView" and server.views else None
    assert cli.run(["dashboard", "study"]) == 2
    shown = capfd.readouterr()
    assert shown.out.startswith("workspace made:") and shown.err.startswith("error: not saved to 127.0.0.1")
    server.fault = lambda kind, name: None
    assert cli.run(["dashboard", "study"]) == 0
    assert [line.split(":")[0] for line in capfd.readouterr().out.splitlines()] == ["workspace updated", "report made"]


def test_a_server_that_is_overloaded(
    server: DashboardServer, quiet: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    quiet.setattr(dashboard_saving, "SECONDS", 1)
    server.fault = lambda kind, name: 503 if name == "upsertView" else None
    assert cli.run(["dashboard", "study"]) == 2
    assert said(capfd).endswith("see that the key may write there, and type the same command")


def test_a_server_that_is_down(server: DashboardServer, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    server.stop()
    assert cli.run(["dashboard", "study", "to=kept"]) == 2
    assert said(capfd) == (
        f"error: 127.0.0.1:{server.port} does not answer, nothing was saved: type the same command when it does, "
        "or set WANDB_BASE_URL"
    )
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"workspace.json", "report.json"}


def test_without_a_key_it_says_how_to_save(quiet: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["dashboard", "study"]) == 0
    *outline, last = capfd.readouterr().out.splitlines()
    assert outline == [
        "workspace 'Methods compared': 26 panels in 7 sections",
        "report 'Methods compared': 26 panels in 7 sections",
    ]
    assert last == (
        "not saved: no key for the server (wandb login, or WANDB_API_KEY), then type menard dashboard study; "
        "to=<folder> writes their JSON"
    )
    quiet.setenv("WANDB_MODE", "offline")
    assert cli.run(["dashboard", "study", "to=here"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == (
        "not saved: WANDB_MODE=offline: unset it, then type menard dashboard study"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no value for project: add project=…"),
        ([""], "the project has no name: type menard dashboard <project>"),
        (["lab/study"], "project 'lab/study' holds a slash: type menard dashboard study entity=lab"),
        (["runs/study"], "project 'runs/study' holds a slash: type menard dashboard study"),
        (["what?"], "project 'what?' is no name that wandb takes"),
        (["study", "entity=a/b"], "entity 'a/b' is no name that wandb takes"),
        (["study", "to=file"], "to=file is a file: give a folder"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, quiet: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "runs/study").mkdir(parents=True)
    (tmp_path / "file").touch()
    assert cli.run(["dashboard", *arguments]) == 2
    line = said(capfd)
    assert line.startswith(f"error: {message}")
    assert ("entity=runs" in line) is False


def test_without_the_library(quiet: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    for name in [name for name in sys.modules if name.startswith(("wandb_workspaces", "menard_unlearn.tracking.dash"))]:
        quiet.delitem(sys.modules, name)
    quiet.setitem(sys.modules, "wandb_workspaces", None)
    assert cli.run(["dashboard", "study"]) == 2
    assert said(capfd) == ("error: dashboards need wandb-workspaces: pip install 'wandb-workspaces>=0.4.13,<0.5'")
