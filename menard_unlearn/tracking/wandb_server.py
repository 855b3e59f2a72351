"""What a wandb server holds of a run, read back through wandb's public Api."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import wandb
from wandb.errors import CommError

from menard_unlearn.errors import UserError, in_one_line
from menard_unlearn.files import canonical
from menard_unlearn.tracking.destination import has_key, reachable
from menard_unlearn.tracking.tracker import identity
from menard_unlearn.tracking.wandb_record import WandbRecord

PAGE = 10_000
"""Rows a request."""
PROBE_SECONDS = 3.0


def silence_telemetry() -> None:
    """wandb counts its own calls for the server and complains, minute by minute, of one that does not take them."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Kept:
    """One run as the server has it."""

    rows: Counter[str]
    """How often each row of figures is there, by `tracker.identity`."""
    values: Mapping[str, str]
    """The figures of each row, canonical, by the same."""
    media: frozenset[str]
    """Names under which tables and HTML were logged whose files are there whole."""
    tables: int
    """Tables of which the bytes are there too: they are artifacts, and can be announced without them."""
    summary: Mapping[str, Any]
    """Scalars of the whole run."""
    artifacts: Mapping[str, Mapping[str, Any]]
    """Metadata of the newest committed version of each artifact that the run logged, by name without version."""
    used: frozenset[str]
    """Names of the artifacts that the run was made from."""
    state: str
    """running, finished, failed, crashed, …"""


@dataclass(frozen=True)
class Server:
    """A server that answers and knows the key."""

    api: wandb.Api
    url: str
    entity: str
    """Whose runs they are where a run does not say."""

    @classmethod
    def connect(cls, seconds: int) -> Server:
        """Ask who we are. Raises UserError where there is no key, no answer within `seconds`, or a refusal."""
        silence_telemetry()
        url = wandb.setup(wandb.Settings(silent=True)).settings.base_url
        if not has_key(url, os.environ):
            raise UserError(f"no key for {url}: type wandb login, or set WANDB_API_KEY")
        if not reachable(url, PROBE_SECONDS):
            raise UserError(f"{urlsplit(url).netloc} does not answer: try again where the network reaches it")
        try:
            api = wandb.Api(timeout=seconds)
            return cls(api, url, str(api.default_entity))
        except Exception as problem:  # wandb has several kinds of refusal and no common one
            reason = in_one_line(problem)
            raise UserError(f"{url} refuses: {reason}; check WANDB_BASE_URL and WANDB_API_KEY") from problem

    def path(self, record: WandbRecord) -> str:
        """entity/project/id"""
        return f"{record.entity or self.entity}/{record.project}/{record.id}"

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # as above
            reason = in_one_line(problem)
            raise UserError(f"{self.url} stopped answering: {reason}; the same command goes on from here") from problem

    def read(self, record: WandbRecord) -> Kept | None:
        """What is there of the run now, or None where nothing is. Raises UserError where the server stops answering."""
        with self._answering():
            return self._read(record)

    def _read(self, record: WandbRecord) -> Kept | None:
        self.api.flush()
        try:
            run = self.api.run(self.path(record))
        except CommError as missing:
            if "Could not find run" not in str(missing):
                raise
            return None
        rows, values, media = Counter[str](), dict[str, str](), dict[str, Mapping[str, Any]]()
        for row in run.scan_history(page_size=PAGE, use_cache=False):
            own = {key: value for key, value in row.items() if not key.startswith("_")}
            found = {key: value for key, value in own.items() if isinstance(value, Mapping)}
            media |= found
            if not found and own:
                rows[identity(own)] += 1
                values[identity(own)] = canonical(own)
        logged = [artifact for artifact in run.logged_artifacts() if artifact.state == "COMMITTED"]
        return Kept(
            rows=rows,
            values=values,
            media=frozenset(_whole(run, media)),
            tables=len({_name(artifact) for artifact in logged if artifact.type == "run_table"}),
            summary=dict(run.summary),
            artifacts={_name(artifact): dict(artifact.metadata) for artifact in sorted(logged, key=_version)},
            used=frozenset(_name(artifact) for artifact in run.used_artifacts()),
            state=str(run.state),
        )

    def delete(self, record: WandbRecord, kind: str, keep: int) -> int:
        """Delete the run's artifacts of this kind but the newest `keep` versions of each; returns how many went."""
        with self._answering():
            return self._delete(record, kind, keep)

    def _delete(self, record: WandbRecord, kind: str, keep: int) -> int:
        versions: dict[str, list[wandb.Artifact]] = {}
        for artifact in self.api.run(self.path(record)).logged_artifacts():
            if artifact.type == kind:
                versions.setdefault(_name(artifact), []).append(artifact)
        found = [sorted(each, key=_version) for each in versions.values()]
        gone = [artifact for each in found for artifact in each[: max(len(each) - keep, 0)]]
        for artifact in gone:
            artifact.delete(delete_aliases=True)
        return len(gone)


def _whole(run: Any, media: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    paths = [str(value["path"]) for value in media.values() if "path" in value]
    sizes = {file.name: file.size for file in run.files(names=paths)} if paths else {}
    yield from (key for key, value in media.items() if sizes.get(value.get("path")) == value.get("size", -1))


def _name(artifact: wandb.Artifact) -> str:
    return str(artifact.name).partition(":")[0]


def _version(artifact: wandb.Artifact) -> int:
    return int(str(artifact.version).removeprefix("v"))
