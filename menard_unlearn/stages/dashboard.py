"""`menard dashboard <project>`: save a workspace and a report that compare methods, or write down what they hold."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from menard_unlearn.config import to_plain
from menard_unlearn.errors import UserError
from menard_unlearn.tracking.dashboard import check_names, reason_not_to_save, save, views, write


def main(cfg: DictConfig) -> None:
    """Print where each can be seen, or why it was not saved and what to do about it."""
    config = to_plain(cfg)
    if isinstance(config["project"], list):
        raise UserError(f"one project at a time: type menard dashboard {config['project'][0]}")
    project, entity = str(config["project"]), None if config["entity"] is None else str(config["entity"])
    check_names(project, entity)
    found = views()
    if config["to"] is not None:
        for path in write(found, Path(config["to"])):
            print(path)
    reason = reason_not_to_save()
    if reason is None:
        for saved in save(found, project, entity):
            print(f"{saved.view.kind} {'made' if saved.new else 'updated'}: {saved.url}", flush=True)
        return
    for view in found:
        print(f"{view.kind} {view.title!r}: {view.panels} panels in {view.sections} sections")
    written = "" if config["to"] is not None else "; to=<folder> writes their JSON"
    print(f"not saved: {reason}, then type menard dashboard {project}{written}")
