"""Views on a wandb server: looked up by name, then made or replaced.

The library's own `save()` gives a view another random name each time, and so leaves one more copy at every call. A name
that stays the same is found again by the query that the library's `from_url` asks.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Iterator, Sequence
from typing import Any

import wandb
from wandb.errors import AuthenticationError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError
from wandb_workspaces._graphql import execute_graphql, get_app_url
from wandb_workspaces.reports.v2.gql import upsert_view

from menard_unlearn.errors import UserError, in_one_line
from menard_unlearn.tracking.dashboard import Saved, View
from menard_unlearn.tracking.destination import NO_ANSWER, choose, requested_mode

SECONDS = 20
"""How long the server may take over each request."""
FIND = """
query SavedViews($entity: String!, $project: String!, $type: String!, $name: String!) {
  project(name: $project, entityName: $entity) {
    allViews(viewType: $type, viewName: $name) { edges { node { id name } } }
  }
}
"""


def reason_not_to_save() -> str | None:
    """As `dashboard.reason_not_to_save`, which is the way in."""
    mode = requested_mode("auto", os.environ)
    if mode in ("offline", "disabled"):
        return f"WANDB_MODE={mode}: unset it"
    base_url = _base_url()
    chosen, reason = choose(mode, base_url)
    if chosen == "online":
        return None
    if NO_ANSWER in reason:
        raise UserError(f"{reason}, nothing was saved: type the same command when it does, or set WANDB_BASE_URL")
    return reason


def save(views: Sequence[View], project: str, entity: str | None) -> Iterator[Saved]:
    """As `dashboard.save`, which is the way in."""
    try:
        api = wandb.Api(timeout=SECONDS)
        owner = entity or api.default_entity
        if owner is None:
            raise UserError("the key belongs to no user or team: name one, entity=<user or team>")
        for view in views:
            yield _save(api, view, project, owner)
    except AuthenticationError as problem:
        raise UserError(f"{_said(problem)}: check the key (wandb login --relogin, or WANDB_API_KEY)") from problem
    except (wandb.Error, WandbApiFailedError) as problem:
        raise UserError(f"{_said(problem)}: see that the key may write there, and type the same command") from problem


def _said(problem: Exception) -> str:
    return f"not saved to {urllib.parse.urlsplit(_base_url()).netloc}: {in_one_line(problem).rstrip('.')}"


def _save(api: wandb.Api, view: View, project: str, entity: str) -> Saved:
    known = _find(api, view, project, entity)
    answer = execute_graphql(
        api,
        upsert_view,
        {
            "id": known,
            "entityName": entity,
            "projectName": project,
            "type": view.wandb_type,
            "name": view.name,
            "displayName": view.title,
            "description": view.description,
            "spec": view.spec,
        },
    )
    kept = answer["upsertView"]["view"]
    return Saved(view, _url(api, view, project, entity, kept["id"]), new=known is None)


def _find(api: wandb.Api, view: View, project: str, entity: str) -> str | None:
    """Id of the view that an earlier call saved."""
    asked = {"entity": entity, "project": project, "type": view.wandb_type, "name": view.name}
    found: dict[str, Any] | None = execute_graphql(api, FIND, asked)["project"]
    if found is None:
        raise UserError(
            f"no project {entity}/{project} on {urllib.parse.urlsplit(_base_url()).netloc}: give the one that runs are "
            "tracked under (tracking.project, else the study's name), and sync offline runs first"
        )
    nodes = [edge["node"] for edge in found["allViews"]["edges"]]
    return next((node["id"] for node in nodes if node["name"] == view.name), None)


def _url(api: wandb.Api, view: View, project: str, entity: str, view_id: str) -> str:
    place = f"{get_app_url(api).rstrip('/')}/{urllib.parse.quote(entity)}/{urllib.parse.quote(project)}"
    if view.kind == "workspace":
        return f"{place}?nw={view.name.removeprefix('nw-').removesuffix('-v')}"
    return f"{place}/reports/{view.title.replace(' ', '-')}--{view_id.replace('=', '')}"


def _base_url() -> str:
    return wandb.setup(wandb.Settings(silent=True)).settings.base_url
