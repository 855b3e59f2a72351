"""What a model is compared with is never edited."""

from __future__ import annotations

import pytest
import torch
from toy import llama

from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.evaluation.utility import kl_to_base
from menard_unlearn.features.hooks import editing
from menard_unlearn.models.edited import without_edits

IDS = tuple(range(1, 30))


def shifted(hidden_BTD: torch.Tensor, _positions: object) -> torch.Tensor:
    return hidden_BTD + 0.5


def log_probs(model) -> torch.Tensor:
    return torch.log_softmax(model(torch.tensor([IDS])).logits[0, :-1].double(), 1).detach()


def test_the_divergence_of_an_edited_model_is_the_one_from_the_plain_model() -> None:
    model = llama()
    plain_TV = log_probs(model)
    with editing(model, 0, shifted, special=()):
        edited_TV = log_probs(model)
        found, _ = kl_to_base(model, {}, [collate([TokenItem("a", IDS, 1)], "x", 0)], chunk=5)
    expected = float((plain_TV.exp() * (plain_TV - edited_TV)).sum(1).mean())
    assert expected > 1e-4
    assert found == pytest.approx(expected, rel=1e-6)


def test_edits_hold_again_afterwards_also_when_blocks_nest() -> None:
    model = llama()
    plain_TV = log_probs(model)
    with editing(model, 0, shifted, special=()):
        with without_edits(model):
            with without_edits(model):
                assert torch.equal(log_probs(model), plain_TV)
            assert torch.equal(log_probs(model), plain_TV)
        assert not torch.equal(log_probs(model), plain_TV)
    assert torch.equal(log_probs(model), plain_TV)
