"""The sections as what wandb can save: a workspace, which follows the runs, and a report, which is read from the top.

The same code gives the same JSON: identifiers that the library draws at random are made of titles and places here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import wandb_workspaces.reports.v2.interface as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces import expr

from menard_unlearn.tracking.dashboard import View
from menard_unlearn.tracking.dashboard_panels import MAX_RUNS, METHOD, Panel, Section, sections

TITLE = "Methods compared"
COLUMNS = ("forget_recall", "retain_recall", "utility_kl", "distance_to_gold", "cutoff_status", "cutoff_change_status")
"""Results beside the name of a run; keys of the study's summary."""
BEST = "final/distance_to_gold"
"""Runs are listed by it, the smallest first."""
GRID_WIDTH = 24
"""Units of a report's grid of panels."""
ROW_HEIGHT, TALL = 8, 14
"""Units of height of a panel among others, and of one that has a row to itself."""


def views() -> tuple[View, View]:
    """Workspace and report. Neither names a project: wandb shows the runs of the one that a view is saved in."""
    return _workspace(), _report()


def _workspace() -> View:
    parts = sections()
    for part in parts:
        _name(part.title, part.panels)
    workspace = ws.Workspace(
        entity="",
        project="",
        name=TITLE,
        sections=[
            ws.Section(
                name=part.title,
                panels=list(part.panels),
                is_open=part.open,
                layout_settings=ws.SectionLayoutSettings(columns=part.columns, rows=_rows(part)),
            )
            for part in parts
        ],
        settings=ws.WorkspaceSettings(max_runs=MAX_RUNS, tooltip_number_of_runs="all_runs"),
        runset_settings=ws.RunsetSettings(
            order=[expr.Ordering(expr.Summary(BEST), ascending=True)],
            pinned_columns=_columns(),
        ),
    )
    workspace._internal_runset_id = _id("workspace", "runs")
    return View(
        kind="workspace",
        wandb_type="project-view",
        # Eleven letters between `nw-` and `-v`, as wandb names its own; the address of the view holds them.
        name="nw-menardboard-v",
        title=TITLE,
        description="",
        sections=len(parts),
        panels=sum(len(part.panels) for part in parts),
        spec=workspace._to_model().spec.model_dump_json(by_alias=True, exclude_none=True),
    )


def _report() -> View:
    parts = sections()
    blocks: list[wr.BlockTypes] = [wr.TableOfContents()]
    for part in parts:
        _name(part.title, part.panels)
        _place(part)
        grid = wr.PanelGrid(runsets=[_finished_runs(part)], panels=list(part.panels), hide_run_sets=False)
        blocks += [wr.H2(part.title), wr.P(part.prose), grid]
    report = wr.Report(project="", entity="", title=TITLE, blocks=blocks, width="fluid")
    return View(
        kind="report",
        wandb_type="runs",
        name="menardreport",
        title=TITLE,
        description="Finished runs of one study, by method.",
        sections=len(parts),
        panels=sum(len(part.panels) for part in parts),
        spec=report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True),
    )


def _finished_runs(part: Section) -> wr.Runset:
    trained = " and JobType = 'unlearn'" if part.trained else ""
    runs = wr.Runset(
        name="Finished runs that trained" if part.trained else "Finished runs",
        filters=f"State = 'finished'{trained}",
        order=[wr.OrderBy(wr.SummaryMetric(BEST), ascending=True)],
        pinned_columns=_columns(),
    )
    runs._id = _id(part.title, "runs")
    return runs


def _columns() -> list[str]:
    return [
        "run:displayName",
        f"config:{METHOD}.value",
        "config:seed.value",
        *(f"summary:final/{key}" for key in COLUMNS),
    ]


def _rows(part: Section) -> int:
    return -(-len(part.panels) // part.columns)


def _place(part: Section) -> None:
    """Lay the panels out in rows of equal width."""
    width, height = GRID_WIDTH // part.columns, TALL if part.columns == 1 else ROW_HEIGHT
    for number, panel in enumerate(part.panels):
        row, column = divmod(number, part.columns)
        panel.layout = wr.Layout(x=column * width, y=row * height, w=width, h=height)


def _name(section: str, panels: Sequence[Panel]) -> None:
    for number, panel in enumerate(panels):
        panel._id = _id(section, str(number))


def _id(*parts: str) -> str:
    """Twelve characters, as many as wandb draws."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]
