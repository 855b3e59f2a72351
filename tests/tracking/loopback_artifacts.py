"""Artifacts on the loopback server, and the GraphQL operations by which wandb's client sends and finds them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from loopback_runs import RunOperations, Variables


@dataclass
class ServedArtifact:
    """One version of an artifact."""

    id: str
    project: str
    name: str
    type: str
    digest: str
    version: int
    run: str | None
    client_id: str | None
    description: str | None
    metadata: dict[str, Any]
    aliases: list[str] = field(default_factory=list)
    state: str = "PENDING"
    manifest: dict[str, Any] | None = None
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass
class Operations(RunOperations):
    """Runs and artifacts: everything that the server can be asked."""

    artifacts: dict[str, ServedArtifact] = field(default_factory=dict)
    """By server id."""
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """Of artifacts: one that is deleted leaves its own to no other."""
    used: list[tuple[str, str]] = field(default_factory=list)
    """(run id, artifact id) of every use."""

    # Artifacts, on their way in

    def op_ArtifactType(self, variables: Variables) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def op_ProjectArtifactType(self, variables: Variables) -> dict[str, Any]:
        return {"project": {"artifactType": None}}

    def op_XXHashDigestsEnabled(self, variables: Variables) -> dict[str, Any]:
        return {"entity": {"xxhashDigestsEnabled": False}}

    def op_CreateArtifact(self, variables: Variables) -> dict[str, Any]:
        given = variables["input"]
        name = given.get("artifactCollectionName") or (given.get("artifactCollectionNames") or ["?"])[0]
        versions = [a for a in self.artifacts.values() if (a.project, a.name) == (given["projectName"], name)]
        found = next((a for a in versions if a.digest == given["digest"]), None)
        if found is None:
            found = ServedArtifact(
                id=f"artifact{next(self.numbers)}",
                project=given["projectName"],
                name=name,
                type=given["artifactTypeName"],
                digest=given["digest"],
                version=len(versions),
                run=given.get("runName"),
                client_id=given.get("clientID"),
                description=given.get("description"),
                metadata=json.loads(given.get("metadata") or "{}"),
            )
            self.artifacts[found.id] = found
        named = {alias["alias"] for alias in given.get("aliases") or []}
        for other in versions:  # an alias stands on one version
            other.aliases = sorted(set(other.aliases) - named)
        found.aliases = sorted({*found.aliases, *named})
        latest = {"id": found.id, "versionIndex": found.version}
        sequence = {"id": f"sequence:{name}", "name": name, "latestArtifact": latest}
        shown = {"id": found.id, "state": found.state, "digest": found.digest, "artifactSequence": sequence}
        return {"createArtifact": {"artifact": shown}}

    def _manifest(self, artifact_id: str, name: str, upload: bool) -> dict[str, Any]:
        url = f"{self.url}/storage/manifest/{artifact_id}" if upload else None
        file = {"id": f"file:{artifact_id}", "name": name, "displayName": name, "uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": f"manifest:{artifact_id}", "file": file}}

    def op_CreateArtifactManifest(self, variables: Variables) -> dict[str, Any]:
        upload = bool(variables.get("includeUpload"))
        return {"createArtifactManifest": self._manifest(variables["artifactID"], variables["name"], upload)}

    def op_UpdateArtifactManifest(self, variables: Variables) -> dict[str, Any]:
        artifact_id = variables["artifactManifestID"].partition(":")[2]
        return {"updateArtifactManifest": self._manifest(artifact_id, "wandb_manifest.json", True)}

    def op_CreateArtifactFiles(self, variables: Variables) -> dict[str, Any]:
        def node(number: int, file: Variables) -> dict[str, Any]:
            return {
                "id": f"file{number}",
                "name": file["name"],
                "displayName": file["name"],
                "uploadUrl": f"{self.url}/storage/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "storagePath": None,
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }

        files = variables["input"]["artifactFiles"]
        return {
            "createArtifactFiles": {
                "files": {"edges": [{"node": node(number, file)} for number, file in enumerate(files)]}
            }
        }

    def op_CommitArtifact(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts[variables["artifactID"]]
        artifact.state = "COMMITTED"
        manifest = self.blobs.get(f"manifest/{artifact.id}")
        artifact.manifest = json.loads(manifest) if manifest else None
        prefix = f"artifact/{artifact.id}/"
        artifact.files = {
            path.removeprefix(prefix): blob for path, blob in self.blobs.items() if path.startswith(prefix)
        }
        return {"commitArtifact": {"artifact": {"id": artifact.id, "digest": artifact.digest}}}

    def op_UseArtifact(self, variables: Variables) -> dict[str, Any]:
        given = variables["input"]
        self.used.append((given.get("runName"), given["artifactID"]))
        return {"useArtifact": {"artifact": {"id": given["artifactID"]}}}

    def op_UpdateArtifact(self, variables: Variables) -> dict[str, Any]:
        return {"updateArtifact": {"artifact": {"id": variables.get("artifactID")}}}

    def op_ClientIDMapping(self, variables: Variables) -> dict[str, Any]:
        found = [a for a in self.artifacts.values() if a.client_id == variables.get("clientID")]
        return {"clientIDMapping": {"serverID": found[0].id} if found else None}

    # Artifacts, on their way out

    def shown(self, artifact: ServedArtifact) -> dict[str, Any]:
        collection = {
            "__typename": "ArtifactSequence",
            "name": artifact.name,
            "project": self.project_of(artifact.project),
        }
        aliases = [
            {"__typename": "ArtifactAlias", "id": alias, "alias": alias, "artifactCollection": collection}
            for alias in artifact.aliases
        ]
        return {
            "__typename": "Artifact",
            "id": artifact.id,
            "artifactSequence": collection,
            "versionIndex": artifact.version,
            "artifactType": {"name": artifact.type},
            "description": artifact.description,
            "metadata": json.dumps(artifact.metadata),
            "ttlDurationSeconds": -2,
            "ttlIsInherited": True,
            "tags": [],
            "historyStep": None,
            "state": artifact.state,
            "size": sum(map(len, artifact.files.values())),
            "digest": artifact.digest,
            "digestAlgorithm": "MANIFEST_MD5",
            "commitHash": f"hash-{artifact.id}",
            "fileCount": len(artifact.files),
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": None,
            "aliases": aliases,
        }

    def op_ArtifactByID(self, variables: Variables) -> dict[str, Any]:
        artifact = self.artifacts.get(variables["id"])
        return {"artifact": self.shown(artifact) if artifact else None}

    def op_ArtifactMembershipByName(self, variables: Variables) -> dict[str, Any]:
        name, _, wanted = variables["name"].partition(":")
        versions = [a for a in self.artifacts.values() if (a.project, a.name) == (variables["project"], name)]
        found = [a for a in versions if wanted in a.aliases or wanted == f"v{a.version}"]
        if wanted in ("", "latest") and not found:
            found = versions
        if not found:
            return {"project": {"artifactCollectionMembership": None}}
        shown = self.shown(found[-1])
        membership = {
            "__typename": "ArtifactCollectionMembership",
            "id": f"membership-{shown['id']}",
            "versionIndex": shown["versionIndex"],
            "createdAt": shown["createdAt"],
            "aliases": [{key: alias[key] for key in ("__typename", "id", "alias")} for alias in shown["aliases"]],
            "artifactCollection": shown["artifactSequence"],
            "artifact": shown,
        }
        return {"project": {"artifactCollectionMembership": membership}}
