"""What of a run may stand on a page: no secret, and nothing of where the target lies."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from menard_unlearn.credentials import HIDDEN, blotted, is_secret
from menard_unlearn.run import VOLATILE

HEX_KEY = re.compile(r"\b[0-9a-f]{40}\b")
"""wandb's older keys look as revisions do: in a sentence they are blotted out, as a setting only their name tells."""
OF_THE_TARGET = ("language", "published", "publish", "_target_")
"""Settings of the target that say nothing of its words, nor of where they are."""


def without_secrets(text: str, config: Mapping[str, Any]) -> str:
    """The text, keys of known services and the target's path blotted out."""
    path = _target_path(config)
    shown = text if path is None else text.replace(path, "(the target)")
    return HEX_KEY.sub(HIDDEN, blotted(shown))


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted key → value of what a run computes.

    Left out are the keys that say where or how a run is kept, secrets, the target's name, prompt and path, and every
    other value that holds that path. A list is one value.
    """
    path = _target_path(config)
    lasting = {key: value for key, value in config.items() if key not in VOLATILE}
    return {key: value for key, value in _flat(lasting) if _is_public(key, value, path)}


def _target_path(config: Mapping[str, Any]) -> str | None:
    target = config.get("target")
    path = target.get("path") if isinstance(target, Mapping) else None
    return str(path) if path else None


def _flat(node: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value


def _is_public(key: str, value: Any, target: str | None) -> bool:
    group, _, rest = key.partition(".")
    if group == "target" and rest not in OF_THE_TARGET:
        return False
    return not (is_secret(key, value) or (target is not None and target in str(value)))
