"""The dashboard as JSON: what it was, what it shows, and what it is told to show in the documentation."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from menard_unlearn.tracking import dashboard

GOLDEN = Path(__file__).parent / "golden"
FRONTS = "Front: damage against recall of forgotten facts", "Front: damage against distance to gold"


@pytest.mark.parametrize("kind", ["workspace", "report"])
def test_the_json_is_what_it_was(kind: str, tmp_path: Path) -> None:
    """After a change that is meant: menard dashboard study to=tests/tracking/golden."""
    (path,) = dashboard.write([view for view in dashboard.views() if view.kind == kind], tmp_path)
    assert json.loads(path.read_text()) == json.loads((GOLDEN / f"{kind}.json").read_text())


def test_the_same_code_gives_the_same_json() -> None:
    assert dashboard.views() == dashboard.views()
    for view in dashboard.views():
        drawn = [panel["__id__"] for panel in found(json.loads(view.spec), "viewType")]
        assert len(drawn) == len(set(drawn)) == view.panels


def found(node: object, key: str) -> list[dict]:
    """Every object that has the key, in order."""
    if isinstance(node, list):
        return [one for item in node for one in found(item, key)]
    if not isinstance(node, dict):
        return []
    return [node] if key in node else [one for item in node.values() for one in found(item, key)]


def test_workspace_and_report_show_the_same_panels() -> None:
    workspace, report = (
        {panel["__id__"]: (panel["viewType"], panel["config"]) for panel in found(json.loads(view.spec), "viewType")}
        for view in dashboard.views()
    )
    assert workspace == report
    kinds = {kind for kind, _ in workspace.values()}
    assert kinds == {
        "Run History Line Plot",
        "Scatter Plot",
        "Bar Chart",
        "Parallel Coordinates Plot",
        "Media Browser",
        "Run Comparer",
        "Weave",
    }
    fronts = {config["chartTitle"] for _, config in workspace.values() if config.get("showMinYAxisLine")}
    assert fronts == set(FRONTS)


def test_the_report_is_of_finished_runs_and_its_panels_do_not_overlap() -> None:
    spec = json.loads(dashboard.views()[1].spec)
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    headings = [block["children"][0]["text"] for block in spec["blocks"] if block["type"] == "heading"]
    assert len(grids) == len(headings) == len(set(headings))
    for grid in grids:
        (runs,) = grid["runSets"]
        filters = {(one["key"]["name"], one["value"]) for one in found(runs["filters"], "op") if "key" in one}
        assert ("state", "finished") in filters, runs["filters"]
        cells = [
            (x, y)
            for panel in found(grid["panelBankSectionConfig"], "viewType")
            for x in range(panel["layout"]["x"], panel["layout"]["x"] + panel["layout"]["w"])
            for y in range(panel["layout"]["y"], panel["layout"]["y"] + panel["layout"]["h"])
        ]
        assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_the_documentation_has_every_panel_and_no_other(checkout: Path) -> None:
    lines = (checkout / "docs/dashboard.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    told = [(section, title, set(re.findall(r"`(\w+/\w+)`", keys))) for section, title, _, keys in rows]
    untitled = {"Weave": "the table", "Run Comparer": "run comparer"}
    shown = [
        (
            section["name"],
            panel["config"].get("chartTitle") or untitled[panel["viewType"]],
            set(re.findall(r'"(?:summary:)?(\w+/\w+)"', json.dumps(panel["config"]))),
        )
        for section in found(json.loads(dashboard.views()[0].spec), "flowConfig")
        for panel in section["panels"]
    ]
    assert told == shown


def test_nothing_else_pays_for_it() -> None:
    program = (
        "import sys, menard_unlearn.cli, menard_unlearn.tracking.tracker, menard_unlearn.stages.dashboard;"
        "print([name for name in sys.modules if name.partition('.')[0] in ('wandb', 'wandb_workspaces', 'torch')])"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
