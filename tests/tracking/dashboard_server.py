"""The loopback server with saved views: what `menard dashboard` asks of a server, as wandb's library asks it too."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from loopback import Loopback
from loopback_runs import Variables

WRITABLE = ("name", "displayName", "description", "type", "spec")


@dataclass
class DashboardServer(Loopback):
    """Views by id; a project exists once a run of it, or its name under `projects`, is known."""

    projects: set[str] = field(default_factory=set)
    """`entity/project` of each that has no runs yet."""
    views: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was saved: the variables of the last mutation, by the id that the server gave."""

    def __enter__(self) -> DashboardServer:
        return self

    def exists(self, entity: str, project: str) -> bool:
        return f"{entity}/{project}" in {*self.projects, *(f"{run.entity}/{run.project}" for run in self.runs.values())}

    def op_SavedViews(self, variables: Variables) -> dict[str, Any]:
        if not self.exists(variables["entity"], variables["project"]):
            return {"project": None}
        wanted = {"entityName": "entity", "projectName": "project", "type": "type", "name": "name"}
        nodes = [
            {"id": key, "name": view["name"]}
            for key, view in self.views.items()
            if all(view[own] == variables[asked] for own, asked in wanted.items())
        ]
        return {"project": {"allViews": {"edges": [{"node": node} for node in nodes]}}}

    def op_upsertView(self, variables: Variables) -> dict[str, Any]:
        json.loads(variables["spec"])
        known = variables["id"]
        if known is not None and known not in self.views:
            raise LookupError(f"no view {known}")
        key = known or base64.b64encode(f"View:{len(self.views) + 1}".encode()).decode()
        self.views[key] = {**variables, "id": key}
        owner = {"id": "project", "name": variables["projectName"], "entityName": variables["entityName"]}
        view = {"id": key, **{name: variables[name] for name in WRITABLE}, "project": owner, "updatedAt": None}
        return {"upsertView": {"view": view, "inserted": known is None}}
