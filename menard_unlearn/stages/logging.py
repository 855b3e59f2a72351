"""The context in which a stage tracks its run, and what the run is made from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.study import StudyData
from menard_unlearn.files import canonical, digest_text, write_json
from menard_unlearn.run import RunDir
from menard_unlearn.stages.settings import Settings
from menard_unlearn.stages.told import RunTracking
from menard_unlearn.tracking.code import code_version
from menard_unlearn.tracking.tracker import InputFile, NoTracking, TrackedRun, open_tracker

LISTED = 10_000
"""Ids of a side that a data manifest lists; of more, only their digest."""


@contextmanager
def track(
    settings: Settings,
    run: RunDir,
    identity: str,
    method: str,
    stage: str,
    inputs: Mapping[str, str],
    data: StudyData,
) -> Iterator[RunTracking]:
    """Track a run for as long as the context lasts, under an id that a resumed run finds again.

    Its configuration is the one in its directory, which of a reference says nothing of the method that asked for it
    first. `method` is what it is called among the methods. `data` is an artifact too: what the corpus was and how it
    was divided.
    """
    plain = {key: value for key, value in run.read_config().items() if key not in ("tracking", "runs_dir")}
    if not settings.target.publish:
        plain = _without_places(plain)
    tracked = TrackedRun(
        id=identity,
        name=run.path.name,
        study=settings.study,
        job_type=stage,
        tags=(method, stage),
        config={**plain, "method_name": method, "inputs": dict(inputs), "code": code_version()},
        directory=run.path,
        inputs=() if isinstance(settings.tracking, NoTracking) else (data_manifest(settings, data),),
    )
    with open_tracker(settings.tracking, tracked) as tracker:
        tracking = RunTracking(tracker, run, inputs)
        try:
            yield tracking
        finally:
            if not run.finished(stage):
                with suppress(OSError, ValueError):  # what ended the run is what has to be told
                    tracking.stopped(settings.tracking.checkpoints)


def _without_places(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without paths that may name the text or its author, as their digests do not; of runs the names
    stay."""
    found = {**plain, "target": {**plain["target"], "path": None}}
    if "authors" in found:
        found["authors"] = {key: value if key == "_target_" else None for key, value in found["authors"].items()}
    if "context" in found:
        documents = {**found["context"]["documents"], "quotations": None}
        found["context"] = {**found["context"], "documents": documents}
    if found.get("run"):
        found["run"] = Path(found["run"]).name
    if "joint" in found:
        found["joint"] = {**found["joint"], "runs": [Path(path).name for path in found["joint"]["runs"]]}
    return found


def data_manifest(settings: Settings, data: StudyData) -> InputFile:
    """The file that says what a study's runs are made from; written by whichever run comes first.

    It holds digests, counts and ids, and no word of a document, a fact or the target.
    """
    content = {"corpus": data.corpus.digest, "split": dict(settings.plain["split"]), "sides": _sides(data)}
    digest = digest_text(canonical(content))[:12]
    path = settings.study_dir / "inputs" / f"data-{digest}.json"
    if not path.is_file():
        write_json(path, content)
    return InputFile(f"data-{digest}", "dataset", path)


def _sides(data: StudyData) -> dict[str, Any]:
    sides: dict[str, list[Document | Fact]] = {side: getattr(data.split, side) for side in data.split.by_decade()}
    return {side: _side(items, data.split.by_decade()[side]) for side, items in sides.items()}


def _side(items: list[Document | Fact], decades: Mapping[int, int]) -> dict[str, Any]:
    ids = sorted(item.id for item in items)
    return {
        "facts": sum(isinstance(item, Fact) for item in items),
        "documents": sum(isinstance(item, Document) for item in items),
        "decades": {str(decade): count for decade, count in decades.items()},
        "ids_digest": digest_text(canonical(ids)),
        "ids": ids if len(ids) <= LISTED else None,
    }
