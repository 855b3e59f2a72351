"""Texts that cannot be scored, or not at once, are refused before any work."""

from __future__ import annotations

import dataclasses

import pytest
from toy import byte_tokenizer, llama, target

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.reproduction import BRIEF, reproduce


@pytest.mark.parametrize(
    ("stride", "told"),
    [
        (None, r"has 601 tokens.*context 512.*evaluation.reproduction.stride=256"),
        (511, r"at most 510 and not 511 \(evaluation.reproduction.stride=256\)"),
    ],
)
def test_a_text_longer_than_the_context_needs_a_stride_that_leaves_some(stride: int | None, told: str) -> None:
    config = dataclasses.replace(BRIEF, stride=stride)
    with pytest.raises(UserError, match=told) as caught:
        reproduce(llama(), byte_tokenizer(), target("x" * 600), prompt="", chunk=512, config=config)
    assert "\n" not in str(caught.value)


def test_one_token_that_nothing_predicts_is_refused() -> None:
    with pytest.raises(UserError, match="is one token"):
        reproduce(llama(), byte_tokenizer(bos=False), target("x"), prompt="", chunk=8)
