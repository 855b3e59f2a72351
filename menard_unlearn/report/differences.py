"""In which settings the runs differ: a row a setting, a column a group."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping
from typing import Any

from menard_unlearn.report.cells import ABSENT
from menard_unlearn.report.gather import differing_keys
from menard_unlearn.report.privacy import settings_of
from menard_unlearn.report.study import Study

SAID_BY_THE_NAME = ("method_name", "method._target_", "wrapper_name", "stage")
"""Settings that the columns' headings say."""
VALUE_AT_MOST = 60
"""Characters of a value that are shown; pointing at it shows the others."""
CLASS = "_target_"
"""What the configuration calls the class of a part."""

Settings = Mapping[str, Mapping[str, Any]]
"""Group → its settings by dotted key."""


def differences(study: Study) -> str:
    """The table of the settings that several groups have, and the others group by group; "" where none differ."""
    found: dict[str, dict[str, Any]] = {}
    for group in study.groups:
        runs = [run for run in study.of(group) if run.config]
        if runs:
            seeds = ", ".join(str(run.seed) for run in runs)
            found[group] = {"seed": seeds, **_without(settings_of(runs[0].config))}
    differing = differing_keys(list(found.values())) if len(found) > 1 else []
    shared = [key for key in differing if sum(key in own for own in found.values()) > 1]
    alone = {
        group: {key: value for key, value in own.items() if key in differing and key not in shared}
        for group, own in found.items()
    }
    return (_table(found, shared) if shared else "") + (_own(alone) if any(alone.values()) else "")


def _without(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in settings.items() if key not in (*SAID_BY_THE_NAME, "seed")}


def _table(found: Settings, keys: list[str]) -> str:
    heads = "".join(f'<th scope="col">{html.escape(group)}</th>' for group in found)
    rows = []
    for key in keys:
        cells = "".join(f"<td>{_value(own, key)}</td>" for own in found.values())
        rows.append(f'<tr><th scope="row">{_key(key)}</th>{cells}</tr>')
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Settings that differ">'
        f'<table class="methods plain settings"><thead><tr><th scope="col">setting</th>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _own(found: Settings) -> str:
    """What one group alone has."""
    items = "".join(
        f"<dt>{html.escape(group)}</dt><dd>{'; '.join(f'{_key(key)} <b>{_value(own, key)}</b>' for key in own)}</dd>"
        for group, own in found.items()
        if own
    )
    return f"<details><summary>Settings that one method alone has</summary><dl>{items}</dl></details>"


def _key(key: str) -> str:
    """The key, breaking at its dots where it must."""
    above, _, last = key.removesuffix(f".{CLASS}").rpartition(".")
    return f'<span class="seed">{html.escape(above)}.</span><wbr>{html.escape(last)}' if above else html.escape(last)


def _value(own: Mapping[str, Any], key: str) -> str:
    if key not in own:
        return f'<span class="none" title="it has no such setting">{ABSENT}</span>'
    text = _text(own[key])
    text = text.rpartition(".")[2] if key.endswith(CLASS) else text
    if len(text) <= VALUE_AT_MOST:
        return html.escape(text)
    return f'<span title="{html.escape(text)}">{html.escape(text[:VALUE_AT_MOST])}…</span>'


def _text(value: Any) -> str:
    """As YAML has it, lists without their brackets."""
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "[]"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
