"""The GraphQL operations by which wandb's public Api reads back what the loopback server holds."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from loopback_artifacts import Operations, ServedArtifact
from loopback_runs import HISTORY, ServedRun, Variables


@dataclass
class ReadingOperations(Operations):
    """Runs, their history, and the artifacts that they logged."""

    def op_Run(self, variables: Variables) -> dict[str, Any]:
        run = self.found(variables)
        return {"project": {**self.project_of(variables["project"]), "run": self.fragment(run) if run else None}}

    def found(self, variables: Variables) -> ServedRun | None:
        """The run that a query's variables name."""
        name = variables.get("name") or variables.get("run") or variables.get("runName")
        return self.runs.get(f"{variables['project']}/{name}")

    def fragment(self, run: ServedRun) -> dict[str, Any]:
        """What the public Api loads of a run."""
        return {
            "id": f"run:{run.name}",
            "projectId": "1",
            "tags": run.tags,
            "name": run.name,
            "displayName": run.display_name,
            "sweepName": None,
            "state": "running" if run.exit_code is None else "finished" if run.exit_code == 0 else "failed",
            "config": json.dumps(run.config),
            "group": run.group,
            "jobType": run.job_type,
            "commit": None,
            "readOnly": False,
            "createdAt": "2026-01-01T00:00:00Z",
            "heartbeatAt": "2026-01-01T00:00:00Z",
            "description": "",
            "notes": run.notes,
            "systemMetrics": "{}",
            "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": len(run.lines[HISTORY]),
            "user": {"name": "loopback", "username": "loopback"},
            "historyKeys": {"keys": {}, "lastStep": max((row["_step"] for row in run.history), default=-1)},
        }

    def op_RunHistoryKeys(self, variables: Variables) -> dict[str, Any]:
        run = self.found(variables)
        return {"project": {"run": {"historyKeys": self.fragment(run)["historyKeys"]} if run else None}}

    def op_RunParquetHistory(self, variables: Variables) -> dict[str, Any]:
        run = self.found(variables)
        live = [{key: row[key] for key in variables["liveKeys"] if key in row} for row in run.history] if run else []
        return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": live}}}}

    def op_HistoryPage(self, variables: Variables) -> dict[str, Any]:
        run, low, high = self.found(variables), variables["minStep"], variables["maxStep"]
        rows = [json.dumps(row) for row in run.history if low <= row["_step"] < high] if run else []
        return {"project": {"run": {"history": rows}}}

    def op_RunOutputArtifacts(self, variables: Variables) -> dict[str, Any]:
        # the client takes for granted that it is told of none that is not whole
        whole = [artifact for artifact in self.artifacts.values() if artifact.state == "COMMITTED"]
        logged = [artifact for artifact in whole if artifact.run == variables["run"]]
        return {"project": {"run": {"artifacts": self._connection(logged)}}}

    def op_RunInputArtifacts(self, variables: Variables) -> dict[str, Any]:
        used = [self.artifacts[artifact] for run, artifact in self.used if run == variables["run"]]
        return {"project": {"run": {"artifacts": self._connection(used)}}}

    def _connection(self, artifacts: list[ServedArtifact]) -> dict[str, Any]:
        edges = [{"node": self.shown(artifact)} for artifact in artifacts]
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"totalCount": len(edges), "pageInfo": page, "edges": edges}

    def op_RunFiles(self, variables: Variables) -> dict[str, Any]:
        run, wanted = self.found(variables), variables.get("fileNames") or []
        files = run.files if run else {}
        edges = [
            {
                "cursor": name,
                "node": {
                    "id": name,
                    "name": name,
                    "url": f"{self.url}/storage/run/{variables['project']}/{variables['name']}/{name}",
                    "directUrl": None,
                    "sizeBytes": str(len(body)),
                    "mimetype": "text/plain",
                    "updatedAt": "2026-01-01T00:00:00Z",
                    "md5": "",
                },
            }
            for name, body in files.items()
            if not wanted or name in wanted
        ]
        listed = {"edges": edges, "pageInfo": {"endCursor": None, "hasNextPage": False}}
        return {"project": {"internalId": "1", "run": {"fileCount": len(edges), "files": listed}}}

    def op_DeleteArtifact(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts.pop(variables["input"]["artifactID"])
        return {"result": {"artifact": {"id": artifact.id}}}
