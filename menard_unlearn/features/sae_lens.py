"""The one place that knows sae-lens, the extra `sae`: it brings published SAEs into the interchange format."""

from __future__ import annotations

import importlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from menard_unlearn.errors import UserError, in_one_line
from menard_unlearn.features.interchange import load_sae
from menard_unlearn.files import from_here, write_json

SOURCE = "menard_source.json"
"""Which published SAE a folder holds."""
MISSING = "sae-lens is not installed: pip install 'menard-unlearn[sae]'"


def download(release: str, sae_id: str, to: Path) -> Path:
    """The folder `to`, holding that SAE as `load_sae` reads it; what is there already is not fetched again.

    Raises UserError without the extra, for a name that sae-lens does not know, where the network does not answer, for a
    folder of another SAE, and for an SAE of a kind that `load_sae` refuses.
    """
    named, label = {"release": release, "sae_id": sae_id}, to / SOURCE
    if not label.is_file():
        _published(release, sae_id).save_model(to)
        write_json(label, named)  # last: without it the folder is filled anew
    elif json.loads(label.read_text(encoding="utf-8")) != named:
        raise UserError(f"{from_here(to)} holds another published SAE ({SOURCE} says which): name another folder")
    load_sae(to)
    return to


def refuse_without_extra() -> None:
    """Raise UserError where sae-lens is not installed; it is looked for and not imported."""
    if importlib.util.find_spec("sae_lens") is None:
        raise UserError(MISSING)


def _published(release: str, sae_id: str) -> Any:
    sae_lens = _sae_lens()
    try:
        return sae_lens.SAE.from_pretrained(release=release, sae_id=sae_id)
    except Exception as error:  # whatever converters of a dozen formats and a network may raise
        raise UserError(
            f"sae.release {release!r} with sae.sae_id {sae_id!r} cannot be had ({in_one_line(error)}): "
            "see the table of sae-lens, or give a folder with sae=load"
        ) from error


def _sae_lens() -> Any:
    # Here and not above: it takes seconds to import, and most installations are without it
    try:
        return importlib.import_module("sae_lens")
    except ImportError as error:
        raise UserError(MISSING) from error
