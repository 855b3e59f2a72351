"""The divergence from the base's likeliest tokens, and from its final states."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cached import NPO_KL, Run, close, config, near, pair

from menard_unlearn.methods.base import predictions, retain_term
from menard_unlearn.models.predictions import Predictions, predict
from menard_unlearn.training.frozen import likeliest, top_k_kl


def test_top_k_is_the_divergence_with_all_others_as_one() -> None:
    """By hand: base (1/2, 1/4, 1/8, 1/8), own uniform; k = 1 leaves (1/2, 1/2) against (1/4, 3/4)."""
    base_KV, own_KV = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log(), torch.zeros(1, 4)

    def kl(k: int) -> float:
        token_KR, logprob_KR, rest_K1 = likeliest(base_KV, k).split([k, k, 1], dim=1)
        return top_k_kl(own_KV, torch.zeros(1), token_KR.long(), logprob_KR, rest_K1[:, 0]).item()

    ln = torch.tensor([2.0, 3.0]).log().tolist()
    assert kl(1) == pytest.approx(0.5 * ln[0] + 0.5 * (ln[0] - ln[1]), rel=1e-5)
    assert kl(4) == pytest.approx(0.25 * ln[0], rel=1e-5)
    assert kl(1) < kl(2) < kl(4) + 1e-7


@pytest.mark.parametrize("folder", ["cached", None])
def test_all_tokens_give_the_whole_divergence_and_fewer_less(folder: str | None, tmp_path: Path) -> None:
    """Also in chunks, with the gradient; with the cache or without, so that results do not depend on it."""
    where = None if folder is None else tmp_path / folder
    batch, found = pair(1).retain, {}
    for k in (None, 64, 8):
        run = Run(config(where, kl_top_k=k), moved=0.2)
        own = predictions(run.model, batch, run.frozen)
        chunked = Predictions(own.states_ND, own.target_N, own.head)
        total = run.frozen.kl(chunked, batch).sum()
        found[k] = {"kl": total.detach()} | dict(
            zip(run.trained, torch.autograd.grad(total, list(run.trained.values())), strict=True)
        )
    assert near(found[64], found[None])
    assert 0 < found[8]["kl"] < found[None]["kl"]


def test_top_k_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, chunked, batch = Run(config(tmp_path, kl_top_k=8)), Run(config(tmp_path, kl_top_k=8)), pair(1)
    expected = whole.step(NPO_KL, batch)
    defaults = dict(Predictions.map.__kwdefaults__ or {})
    monkeypatch.setattr(Predictions.map, "__kwdefaults__", defaults | {"logits_at_once": 64 * 3})
    assert near(chunked.step(NPO_KL, batch), expected)
    term = retain_term("kl", chunked.model, batch.retain, chunked.frozen)
    assert term.count == batch.retain.n_tokens


def test_a_known_divergence_costs_no_pass_of_the_base(tmp_path: Path) -> None:
    """Its final states are read and only the head is applied; without a prefix the base would run as a whole."""
    run, passes = Run(config(tmp_path), (r"embed_tokens",)), []
    batch = pair(0).retain
    own = predict(run.model, batch, None)
    expected = run.frozen.kl(own, batch)
    run.model.model.register_forward_hook(lambda *_: passes.append(1))
    assert torch.equal(run.frozen.kl(own, batch), expected) and not passes
    plain = Run(config(None), (r"embed_tokens",))
    assert close(plain.frozen.kl(predict(plain.model, batch, None), batch), expected)
