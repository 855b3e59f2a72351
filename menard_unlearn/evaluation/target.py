"""The text to reproduce. It is named by its SHA-256; its words stay on this machine unless the user publishes them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

from menard_unlearn.corpus.dating import parse_date
from menard_unlearn.errors import UserError
from menard_unlearn.files import digest_text

EMBEDDED_CONTROL = "embedded:control"
"""Path of the embedded control: prose of the target's kind and length, written for this project and trained on by no
embedded model."""


@dataclass(frozen=True)
class TextConfig:
    """Another text beside the target: an edition of it, or a control."""

    path: str
    """A UTF-8 text file."""
    language: str
    """ISO 639-1 code."""
    prompt: str | None
    """What comes before it where it is scored; null is nothing."""


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
    editions: dict[str, TextConfig]
    """Other editions and translations of the same work, by name. They are forgotten with the target, and each is scored
    like it."""
    controls: dict[str, TextConfig]
    """Texts to read the target's figures against, by name: others by its author, a pastiche, a translation that nobody
    has published. The first stands beside the target's heat map."""


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
    editions: tuple[Target, ...] = ()
    """Other editions and translations; these have neither editions nor controls."""
    controls: tuple[Target, ...] = ()
    """Texts to compare with."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the target's figures depend on: its own alone where nothing is beside it."""
        texts = {"editions": self.editions, "controls": self.controls}
        beside = [f"{kind}/{text.name}/{text.sha256}" for kind, found in texts.items() for text in found]
        return digest_text("\n".join([self.sha256, *beside])) if beside else self.sha256

    @property
    def whole(self) -> str:
        """Prompt and text, as a reader meets them."""
        return self.prompt + self.text


def load_target(config: TargetConfig, embedded: str | None, title: str, control: str | None) -> Target:
    """Read the target and the texts beside it.

    `embedded` is the package's own text under `title`, used where no path is given, `control` its text for
    `EMBEDDED_CONTROL`. Raises UserError for a missing, undecodable or empty file, for an unreadable date, or where
    there is neither path nor text.
    """
    raw = _read(config.path, "target.path") if config.path is not None else (embedded or "").encode()
    text = _text(raw, config.path or config.name, "target.path")
    try:
        parse_date(config.published)
    except ValueError as error:
        raise UserError(
            f"target.published={config.published!r} is no date: give 1939, 1939-05 or 1939-05-01"
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    whole = Target(
        text=text,
        prompt=config.prompt if config.prompt is not None else (title if config.path is None else ""),
        sha256=digest,
        language=config.language,
        published=config.published,
        publish=config.publish or config.path is None,
        name=config.name or ("embedded" if config.path is None else digest[:8]),
    )
    return replace(
        whole,
        editions=tuple(_beside(whole, "editions", name, text, None) for name, text in config.editions.items()),
        controls=tuple(_beside(whole, "controls", name, text, control) for name, text in config.controls.items()),
    )


def _beside(whole: Target, kind: str, name: str, config: TextConfig, embedded: str | None) -> Target:
    """An edition or a control: a text of its own, published or not as the target is."""
    key = f"target.{kind}.{name}.path"
    own = config.path == EMBEDDED_CONTROL and embedded is not None
    raw = (embedded or "").encode() if own else _read(config.path, key)
    return replace(
        whole,
        text=_text(raw, config.path, key),
        prompt=config.prompt or "",
        sha256=hashlib.sha256(raw).hexdigest(),
        language=config.language,
        name=name,
        publish=whole.publish or own,
    )


def _text(raw: bytes, name: str | None, key: str) -> str:
    try:
        text = raw.decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise UserError(f"target {name} is not UTF-8 (byte {error.start}): convert it to UTF-8") from error
    if not text:
        raise UserError(f"target {name} is empty: give a text file, {key}=<file>")
    return text


def _read(path: str, key: str) -> bytes:
    if not Path(path).is_file():
        raise UserError(f"no target text at {path}: give a text file, {key}=<file>")
    return Path(path).read_bytes()
