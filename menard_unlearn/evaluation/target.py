"""The text to reproduce. It is named by its SHA-256; its words stay on this machine unless the user publishes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.errors import UserError


@dataclass(frozen=True)
class TargetConfig:
    """Which text, as configured."""

    path: str | None
    """A UTF-8 text file; null is the text embedded in the package."""
    published: str
    """When it appeared: a year, a month or a day, as 1939, 1939-05 or 1939-05-01."""
    language: str
    """ISO 639-1 code of the edition's language."""
    prompt: str | None
    """What comes before the text where it is scored, as a title; not scored itself. null: the embedded text's own
    title, and nothing before a user's text."""
    publish: bool
    """Whether the words of a user's text may stand in results, wandb and the page; without it they get ranks and
    log-probabilities. The embedded text, written for this project, is always shown."""
    name: str | None
    """What results call it; null is "embedded", or the first digits of a user's text's SHA-256."""


@dataclass(frozen=True)
class Target:
    """A text to reproduce."""

    text: str = field(repr=False)
    """Without white space around it. Not in repr, so that no log or traceback shows it."""
    prompt: str = field(repr=False)
    """What comes before it, with the white space between; may be empty."""
    sha256: str
    """Of the file's bytes, as `sha256sum` prints it; of the UTF-8 text where it is embedded."""
    language: str
    published: str
    publish: bool
    name: str

    @property
    def whole(self) -> str:
        """Prompt and text, as a reader meets them."""
        return self.prompt + self.text


def load_target(config: TargetConfig, embedded: str | None, title: str) -> Target:
    """Read the target; `embedded` is the package's own text under `title`, used where no path is given.

    Raises UserError for a missing, undecodable or empty file, for an unreadable date, or where there is neither path
    nor text.
    """
    raw = _read(config.path) if config.path is not None else (embedded or "").encode()
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"target {config.path} is not UTF-8 (byte {error.start}): convert it to UTF-8") from error
    if not text:
        raise UserError(f"target {config.path or config.name} is empty: give a text file, target.path=<file>")
    try:
        parse_date(config.published)
    except ValueError as error:
        raise UserError(
            f"target.published={config.published!r} is no date: give 1939, 1939-05 or 1939-05-01"
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    return Target(
        text=text,
        prompt=config.prompt if config.prompt is not None else (title if config.path is None else ""),
        sha256=digest,
        language=config.language,
        published=config.published,
        publish=config.publish or config.path is None,
        name=config.name or ("embedded" if config.path is None else digest[:8]),
    )


def _read(path: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"no target text at {path}: give a text file, target.path=<file>")
    return Path(path).read_bytes()
