"""Text that a model writes for itself never quotes the target."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from tiny_study import TARGET, Study

from menard_unlearn.corpus.arms import SyntheticArm
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.errors import UserError
from menard_unlearn.models.load import ModelSource, load, load_tokenizer
from menard_unlearn.stages import synthetic


@pytest.mark.parametrize("attempts", [1, synthetic.ATTEMPTS])
def test_a_window_that_quotes_the_target_is_written_anew(
    study: Study, monkeypatch: pytest.MonkeyPatch, attempts: int
) -> None:
    """The model that writes has one window of two by heart, at first or always."""
    source = ModelSource("tiny", str(study.models / "full"), None, None, None, "float32", None, None)
    tokenizer = load_tokenizer(source)
    quote, other = (tuple(tokenizer.encode(text, add_special_tokens=False)) for text in (TARGET, "Quite other words."))
    asked_for: list[list[str]] = []

    def write(_spec: Any, asked: list[TokenItem], *_: Any) -> dict[str, TokenItem]:
        asked_for.append([item.id for item in asked])
        again = len(asked_for) > attempts
        return {
            item.id: TokenItem(item.id, (1, *(quote if item.id.endswith("b") and not again else other)), 1)
            for item in asked
        }

    monkeypatch.setattr(synthetic, "_write", write)
    target = SimpleNamespace(whole=TARGET, editions=())
    prepared = cast("Any", SimpleNamespace(target=target, settings=SimpleNamespace(model=source)))
    matched = [TokenItem(id, (1, 2, 3), 1) for id in ("x/a", "x/b")]
    if attempts == synthetic.ATTEMPTS:
        with pytest.raises(UserError, match="1 of 2 windows that .* wrote quote the target, 5 times over"):
            synthetic.sampled(SyntheticArm("model", "author", 1.0, 7), matched, load(source), prepared)
        return
    found = synthetic.sampled(SyntheticArm("model", "author", 1.0, 7), matched, load(source), prepared)
    assert [item.ids[1:] for item in found] == [other, other]
    assert asked_for == [["synthetic 7.0/x/a", "synthetic 7.0/x/b"], ["synthetic 7.1/x/b"]]
