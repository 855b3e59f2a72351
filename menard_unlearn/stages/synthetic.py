"""Text that a model writes by itself, as long as another text. It is written once, and kept for all runs of a study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from menard_unlearn.corpus.arms import SyntheticArm
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.split import quotes_target
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Alternates
from menard_unlearn.models.load import LoadedModel
from menard_unlearn.stages.alternates import alternates
from menard_unlearn.stages.settings import Prepared

ATTEMPTS = 5
"""At a window that does not quote the target: a model that has it by heart may begin it by chance."""


def sampled(
    arm: SyntheticArm, matched: Sequence[TokenItem], loaded: LoadedModel, prepared: Prepared
) -> list[TokenItem]:
    """A window for each of the others, of its length, sampled from `loaded` after BOS alone.

    Where the tokenizer has none, after the other window's first token. A window that shares eight words in a row with
    the target or an edition of it is sampled anew. Raises UserError where that goes on.
    """
    spec = Alternates("model", (), "", arm.temperature)
    found: dict[str, TokenItem] = {}
    for attempt in range(ATTEMPTS):
        # the id decides what is sampled
        asked = [
            replace(item, id=f"synthetic {arm.seed}.{attempt}/{item.id}", n_prompt=1)
            for item in matched
            if item.id not in found
        ]
        written = _write(spec, asked, loaded, prepared)
        for item in asked:
            if not _quotes(written[item.id], loaded, prepared):
                found[item.id.partition("/")[2]] = written[item.id]
        if len(found) == len(matched):
            return [found[item.id] for item in matched]
    raise UserError(
        f"{len(matched) - len(found)} of {len(matched)} windows that {prepared.settings.model.path} wrote quote the "
        f"target, {ATTEMPTS} times over: set arm.kind=shuffled, or a higher arm.temperature"
    )


def _write(
    spec: Alternates, asked: Sequence[TokenItem], loaded: LoadedModel, prepared: Prepared
) -> dict[str, TokenItem]:
    settings = prepared.settings
    return alternates(
        spec,
        prepared.data,
        asked,
        (),
        loaded.tokenizer,
        lambda: loaded,
        f"{loaded.identity}-{settings.model.dtype}",
        settings.study_dir / "alternates",
    )


def _quotes(item: TokenItem, loaded: LoadedModel, prepared: Prepared) -> bool:
    text = str(loaded.tokenizer.decode(list(item.ids), skip_special_tokens=True))
    return any(quotes_target(text, other.whole) for other in (prepared.target, *prepared.target.editions))
