"""Comparing methods in wandb: a workspace and a report as code, saved in a project or only written down.

Nothing here imports wandb before it is needed. What is shown is in `dashboard_panels`, how it becomes wandb's JSON in
`dashboard_views`, and how that reaches a server in `dashboard_saving`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from menard_unlearn.errors import UserError
from menard_unlearn.files import write_json
from menard_unlearn.tracking.destination import check_name

REQUIREMENT = "wandb-workspaces>=0.4.13,<0.5"


@dataclass(frozen=True)
class View:
    """Something that wandb saves under a name and shows at an address."""

    kind: str
    """workspace | report"""
    wandb_type: str
    """What wandb calls the kind."""
    name: str
    """The same in every project, so that the next call finds what this one saved; users see `title`."""
    title: str
    description: str
    sections: int
    panels: int
    spec: str
    """JSON, as wandb stores it."""


@dataclass(frozen=True)
class Saved:
    """A view on a server."""

    view: View
    url: str
    new: bool
    """False where an earlier one was brought up to date."""


def check_names(project: str, entity: str | None) -> None:
    """Raises UserError where either cannot be the name of a project, or of a user or team."""
    if not project:
        raise UserError(
            "the project has no name: type menard dashboard <project>, what runs are tracked under "
            "(tracking.project, else the study's name)"
        )
    if "/" in project:
        head, _, tail = project.rstrip("/").rpartition("/")
        owner = "" if Path(project).is_dir() or "/" in head else f" entity={head}"
        raise UserError(f"project {project!r} holds a slash: type menard dashboard {tail}{owner}")
    check_name("project", project)
    check_name("entity", entity)


def views() -> tuple[View, View]:
    """Workspace and report, the same at every call.

    Raises:
        UserError: wandb-workspaces is not installed.
    """
    try:
        # An install without dependencies may lack it, and every other stage does without.
        from menard_unlearn.tracking.dashboard_views import views
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("wandb_workspaces"):
            raise
        raise UserError(f"dashboards need wandb-workspaces: pip install '{REQUIREMENT}'") from error
    return views()


def write(views: Sequence[View], folder: Path) -> list[Path]:
    """Write `<kind>.json` of each into the folder; returns the paths."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"to={folder} is a file: give a folder")
    paths = [folder / f"{view.kind}.json" for view in views]
    for view, path in zip(views, paths, strict=True):
        write_json(path, json.loads(view.spec))
    return paths


def reason_not_to_save() -> str | None:
    """Why nothing can be saved from here: there is no key, or wandb is told to stay offline. None where it can.

    Raises:
        UserError: there is a key, and the server does not answer.
    """
    from menard_unlearn.tracking.dashboard_saving import reason_not_to_save

    return reason_not_to_save()


def save(views: Sequence[View], project: str, entity: str | None) -> Iterator[Saved]:
    """Save one after another, each under its name: what an earlier call saved there is replaced.

    Args:
        views: what `views()` gave.
        project: an existing project.
        entity: user or team that it belongs to; None is the key's own.

    Raises:
        UserError: the server is away or refuses, the key is bad, or there is no such project.
    """
    from menard_unlearn.tracking.dashboard_saving import save

    return save(views, project, entity)
