"""Runs on the loopback server, and the GraphQL operations by which wandb's client sends them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

Variables = dict[str, Any]
HISTORY = "wandb-history.jsonl"
COLUMNS = {
    "groupName": "group",
    "jobType": "job_type",
    "notes": "notes",
    "displayName": "display_name",
    "tags": "tags",
    "state": "state",
}
"""Variables of UpsertBucket, and the fields of a run that they set."""


@dataclass
class ServedRun:
    """A run as the server knows it."""

    entity: str
    project: str
    name: str
    """Its id."""
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    notes: str | None = None
    state: str | None = None
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    """As the client sends it: {key: {"value": value}}."""
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))
    """Lines by stream and offset: one that is sent again replaces itself."""
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        return [json.loads(line) for _, line in sorted(self.lines[HISTORY].items())]

    def rows(self, key: str) -> list[dict[str, Any]]:
        """Rows of history that hold `key`, without wandb's own fields."""
        own = [{name: value for name, value in row.items() if not name.startswith("_")} for row in self.history]
        return [row for row in own if key in row]

    def receive(self, sent: dict[str, Any]) -> None:
        """What one request to the file stream brings."""
        for name, chunk in (sent.get("files") or {}).items():
            for number, line in enumerate(chunk.get("content") or []):
                if name == "wandb-summary.json":
                    self.summary = json.loads(line)
                else:
                    self.lines[name][chunk.get("offset", 0) + number] = line
        if sent.get("complete"):
            self.exit_code = sent.get("exitcode")

    def tail(self, stream: str) -> str:
        """The stream's last line in a JSON list, or an empty one."""
        return json.dumps([line for _, line in sorted(self.lines[stream].items())][-1:])


@dataclass
class RunOperations:
    """Runs, and who asks for them."""

    entity: str = "loopback"
    runs: dict[str, ServedRun] = field(default_factory=dict)
    """By `project/id`."""
    blobs: dict[str, bytes] = field(default_factory=dict)
    """Files by path."""

    @property
    def url(self) -> str:
        """Address of the server."""
        raise NotImplementedError

    def run_of(self, entity: str | None, project: str, name: str) -> ServedRun:
        """The run, made now where it is new."""
        key = f"{project}/{name}"
        return self.runs.setdefault(key, ServedRun(entity or self.entity, project, name, display_name=name))

    def keep(self, path: str, body: bytes) -> None:
        """Store an uploaded file; those of runs are named `run/<project>/<id>/<name>`."""
        self.blobs[path] = body
        if path.startswith("run/"):
            _, project, run_id, name = path.split("/", 3)
            self.runs[f"{project}/{run_id}"].files[name] = body

    # Who asks, and what the server can do

    def op_Viewer(self, variables: Variables) -> dict[str, Any]:
        names = {"entity": self.entity, "username": "loopback", "email": "nobody@localhost", "flags": "{}"}
        return {"viewer": {"id": "user", **names, "teams": {"edges": []}}}

    def op_GetDefaultEntity(self, variables: Variables) -> dict[str, Any]:
        return {"viewer": {"id": "user", "entity": self.entity, "defaultEntity": {"name": self.entity}}}

    def op_ServerFeaturesQuery(self, variables: Variables) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def op_OrganizationCoreWeaveOrganizationID(self, variables: Variables) -> dict[str, Any]:
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def op_RunStoppedStatus(self, variables: Variables) -> dict[str, Any]:
        return {"project": {"run": {"stopped": False}}}

    # Runs

    def project_of(self, name: str) -> dict[str, Any]:
        return {"id": "project", "internalId": "1", "name": name, "entity": {"id": "entity", "name": self.entity}}

    def op_RunResumeStatus(self, variables: Variables) -> dict[str, Any]:
        run = self.runs.get(f"{variables['project']}/{variables['name']}")
        model = self.project_of(variables["project"])
        if run is None:
            return {"model": {**model, "bucket": None}}
        counts = {"logLineCount": "output.log", "historyLineCount": HISTORY, "eventsLineCount": "wandb-events.jsonl"}
        bucket = {
            "id": f"run:{run.name}",
            "name": run.name,
            "displayName": run.display_name,
            "summaryMetrics": json.dumps(run.summary),
            "config": json.dumps(run.config),
            "tags": run.tags,
            "wandbConfig": '{"t": 1}',
            "historyTail": run.tail(HISTORY),
            "eventsTail": run.tail("wandb-events.jsonl"),
            **{count: len(run.lines[stream]) for count, stream in counts.items()},
        }
        return {"model": {**model, "bucket": bucket}}

    def op_UpsertBucket(self, variables: Variables) -> dict[str, Any]:
        new = f"{variables['project']}/{variables['name']}" not in self.runs
        run = self.run_of(variables.get("entity"), variables["project"], variables["name"])
        for variable, attribute in COLUMNS.items():
            if variables.get(variable) is not None:
                setattr(run, attribute, variables[variable])
        if variables.get("config"):
            run.config = json.loads(variables["config"])
        if variables.get("summaryMetrics"):
            run.summary = json.loads(variables["summaryMetrics"])
        bucket = {
            "id": f"run:{run.name}",
            "name": run.name,
            "displayName": run.display_name,
            "description": "",
            "config": json.dumps(run.config),
            "sweepName": None,
            "project": self.project_of(run.project),
            "historyLineCount": len(run.lines[HISTORY]),
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": new}}

    def op_CreateRunFiles(self, variables: Variables) -> dict[str, Any]:
        folder = f"{self.url}/storage/run/{variables['project']}/{variables['run']}"
        files = [{"name": name, "uploadUrl": f"{folder}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": f"run:{variables['run']}", "uploadHeaders": [], "files": files}}
