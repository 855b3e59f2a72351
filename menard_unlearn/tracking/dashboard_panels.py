"""What the dashboard shows, section by section: the workspace and the report are both made of these.

Every name of a figure is one that a run logs (`results.py`, `tracker.py`); a test holds them against a real run's.
Lines are means over the runs of a method, points are runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import wandb_workspaces.reports.v2.interface as wr

Panel = (
    wr.LinePlot
    | wr.ScatterPlot
    | wr.BarPlot
    | wr.ParallelCoordinatesPlot
    | wr.MediaBrowser
    | wr.WeavePanelSummaryTable
    | wr.RunComparer
)

MAX_RUNS = 200
"""Runs that a panel draws; wandb's own limit is 10, less than one sweep."""

METHOD = "method_name"
"""Key of a run's configuration: method, or base, gold, without_target, prompted."""

YEAR, STEP = "eval/year", "train/step"


@dataclass(frozen=True)
class Section:
    """Panels under one heading."""

    title: str
    prose: str
    """How to read it; the report says so under the heading."""
    panels: tuple[Panel, ...]
    columns: int
    """Panels in a row."""
    trained: bool
    """Whether only runs that trained say anything here; the report leaves the references out."""
    open: bool
    """Whether the workspace shows it unfolded."""


def sections() -> list[Section]:
    """All sections in their order, of panels that are made anew by each call."""
    return [_by_year(), _against_each_other(), _hyper_parameters(), _target(), _training(), _tables(), _differences()]


def _by_year() -> Section:
    return Section(
        "Recall by year",
        "Share of probes answered, by the year of the fact. A method that does what was asked keeps the base's curve "
        "up to the cutoff and gold's after it. Change is against the base, over probes that the base answers.",
        (
            _line("Recall by year", "curve/recall", YEAR),
            _line("Change against the base by year", "curve/change", YEAR),
            _line("Recall by year: the probe does not state the year", "curve/unstated_recall", YEAR),
            _line("Recall by year: the probe states the year", "curve/stated_recall", YEAR),
        ),
        columns=2,
        trained=False,
        open=True,
    )


def _against_each_other() -> Section:
    return Section(
        "Forgetting against what is kept",
        "A point is a run. The line through the second and the third is the front: the least damage of all runs that "
        "forget at least as much. Bars are means over the runs of a method, with standard errors.",
        (
            _scatter("Retained facts against forgotten facts", "final/forget_recall", "final/retain_recall"),
            _front("Front: damage against recall of forgotten facts", "final/forget_recall", "final/utility_kl"),
            _front("Front: damage against distance to gold", "final/distance_to_gold", "final/utility_kl"),
            _scatter(
                "Facts that no training saw: retained against forgotten",
                "final/heldout_forget_recall",
                "final/heldout_retain_recall",
            ),
            _scatter("Retained text against the target", "final/target_bits_per_byte", "final/retain_bits_per_byte"),
            _bars("Forgotten facts still answered", "final/forget_recall"),
            _bars("Retained facts answered", "final/retain_recall"),
            _bars("Distance to gold", "final/distance_to_gold"),
            _bars("Share of the forgetting that a prompt alone gives", "final/prompted_share"),
        ),
        columns=3,
        trained=False,
        open=True,
    )


def _hyper_parameters() -> Section:
    config = [_axis(METHOD), _axis("seed"), _axis("trainer.learning_rate", log=True), _axis("trainer.max_steps")]
    found = ("forget_recall", "retain_recall", "utility_kl", "distance_to_gold", "cutoff_change_year")
    results = [wr.ParallelCoordinatesPlotColumn(wr.SummaryMetric(f"final/{key}")) for key in found]
    return Section(
        "Hyper-parameters and results",
        "A line is a run. Drag along an axis to keep the runs that pass there.",
        (wr.ParallelCoordinatesPlot(title="From hyper-parameters to results", columns=config + results),),
        columns=1,
        trained=True,
        open=True,
    )


def _target() -> Section:
    return Section(
        "The target, token by token",
        "How likely each token of the target is to each model. Its words are shown only where the target is published.",
        (wr.MediaBrowser(title="Target tokens", media_keys=["eval/target_tokens"], num_columns=2, gallery_axis="run"),),
        columns=1,
        trained=False,
        open=True,
    )


def _training() -> Section:
    return Section(
        "Training",
        "The loss and its terms, which do not compare between methods. Recall on the way: only with evaluation.every.",
        (
            _line("Loss", "train/loss", STEP),
            _line("Forget term", "train/forget", STEP),
            _line("Retain term", "train/retain", STEP),
            _line("Recall of forgotten facts", "eval/forget_recall", STEP),
            _line("Recall of retained facts", "eval/retain_recall", STEP),
            _line("Norm of the gradient", "train/grad_norm", STEP),
            _line("Learning rate", "train/learning_rate", STEP),
            _bars("Seconds", "final/seconds"),
            _bars("Peak memory, MB", "final/peak_memory_mb"),
        ),
        columns=3,
        trained=True,
        open=False,
    )


def _tables() -> Section:
    return Section(
        "Years as a table",
        "The bins that the curves are drawn from, with their intervals and numbers of probes.",
        (wr.WeavePanelSummaryTable(table_name="eval/by_year"),),
        columns=1,
        trained=False,
        open=False,
    )


def _differences() -> Section:
    return Section(
        "Differences between runs",
        "Only what is not the same in all runs.",
        (wr.RunComparer(diff_only=True),),
        columns=1,
        trained=False,
        open=False,
    )


def _line(title: str, y: str, x: str) -> wr.LinePlot:
    return wr.LinePlot(
        title=title,
        x=x,
        y=[y],
        groupby=wr.Config(METHOD),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=MAX_RUNS,
        smoothing_type="none",
    )


def _scatter(title: str, x: str, y: str) -> wr.ScatterPlot:
    return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=wr.SummaryMetric(y))


def _front(title: str, x: str, damage: str) -> wr.ScatterPlot:
    """Both are better when smaller, so that the front is the running minimum from the left."""
    return wr.ScatterPlot(title=title, x=wr.SummaryMetric(x), y=wr.SummaryMetric(damage), running_ymin=True)


def _bars(title: str, metric: str) -> wr.BarPlot:
    return wr.BarPlot(
        title=title,
        metrics=[metric],
        groupby=wr.Config(METHOD),
        groupby_aggfunc="mean",
        groupby_rangefunc="stderr",
        max_runs_to_show=MAX_RUNS,
    )


def _axis(key: str, log: bool | None = None) -> wr.ParallelCoordinatesPlotColumn:
    return wr.ParallelCoordinatesPlotColumn(wr.Config(key), log=log)
