"""Pieces are whole stretches of their works, and no work or author lies on both sides of the split."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise

import pytest
from authored import CUT, TOKENIZER, authors, cut
from toy import byte_tokenizer

from menard_unlearn.corpus.works import Work, authors_data
from menard_unlearn.errors import UserError
from menard_unlearn.features.pieces import PiecesConfig, pieces


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.99])
@pytest.mark.parametrize(("own", "others"), [(2, 2), (6, 3)])
def test_works_and_authors_lie_on_one_side(own: int, others: int, share: float, seed: int) -> None:
    found = pieces(authors(own, others), TOKENIZER, dataclasses.replace(CUT, heldout_share=share, seed=seed))
    sides = {"train": set(), "heldout": set()}
    for piece in found.every:
        sides[piece.side].add((piece.own, piece.work if piece.own else piece.author))
    assert not sides["train"] & sides["heldout"]
    for clusters in sides.values():
        assert {own for own, _ in clusters} == {True, False}
    held = [sum(mine is kind for mine, _ in sides["heldout"]) for kind in (True, False)]
    for n_held, n in zip(held, (own, others), strict=True):
        assert n_held == n - 1 or share * n <= n_held < share * n + 1


def test_a_share_of_a_decimal_number_is_not_rounded_up() -> None:
    found = pieces(authors(5, 10, 1), TOKENIZER, dataclasses.replace(CUT, heldout_share=0.2))
    held = {piece.cluster for piece in found.every if piece.side == "heldout"}
    assert sum(name.startswith("Zeno") for name in held) == 1 and len(held) == 3


def test_who_is_held_out_depends_on_seed_and_names_alone() -> None:
    data = authors()
    swapped = dataclasses.replace(data, own=data.own[::-1], others=data.others[::-1])
    sides = [{p.id: p.side for p in pieces(d, TOKENIZER, CUT).every} for d in (data, swapped)]
    assert sides[0] == sides[1]
    by_seed = {
        tuple(p.side for p in pieces(data, TOKENIZER, dataclasses.replace(CUT, seed=seed)).every) for seed in range(8)
    }
    assert len(by_seed) > 3


@pytest.mark.parametrize("bos", [True, False])
@pytest.mark.parametrize("tokens", [8, 41, 119, 121, 300])
@pytest.mark.parametrize("per_work", [1, 2, 3, 100])
def test_pieces_are_stretches_of_their_works_evenly_spaced(per_work: int, tokens: int, bos: bool) -> None:
    tokenizer = byte_tokenizer(bos)
    data = authors()
    found = pieces(data, tokenizer, PiecesConfig(tokens, per_work, 0.3, 0))
    for work in data.own:
        ids = tuple(tokenizer.encode(work.text, add_special_tokens=False))
        size = tokens - bos
        whole = len(ids) // size
        own = [piece for piece in found.every if piece.work == work.id]
        assert len(own) == min(per_work, max(1, whole))
        assert len({piece.id for piece in own}) == len(own)
        places = [int(piece.id.rsplit("#", 1)[1]) for piece in own]
        assert places[0] == 0 and (per_work == 1 or places[-1] == max(0, whole - 1))
        steps = {after - before for before, after in pairwise(places)}
        assert not steps or max(steps) - min(steps) <= 1
        for place, piece in zip(places, own, strict=True):
            start = (tokenizer.bos_token_id,) * bos
            assert piece.item.ids == (*start, *ids[place * size : (place + 1) * size])
            assert piece.item.n_prompt == 1


def test_some_pieces_of_one_side_are_fewer_of_the_same() -> None:
    found = pieces(authors(), TOKENIZER, dataclasses.replace(CUT, tokens=11, per_work=10))
    for side in ("train", "heldout"):
        some = found.some(side, 3)
        whole = [piece for piece in found.every if piece.side == side]
        assert set(some.every) < set(whole) and {p.work for p in some.every} == {p.work for p in whole}
        assert len(some.every) == 3 * len({p.work for p in whole})
        assert found.some(side, 10).every == tuple(whole)
        assert [len(found.items(side, own)) for own in (True, False)] == [
            sum(p.own is own for p in whole) for own in (True, False)
        ]


def test_counts_and_clusters_by_hand() -> None:
    found = cut(own=6, others=4, works=2)
    assert found.counts() == {
        # 6 works of which ceil(0.34 · 6) are held out, 4 authors of which ceil(0.34 · 4) are, two pieces a work
        "train": {"pieces_own": 6, "works_own": 3, "pieces_others": 8, "works_others": 4, "authors_others": 2},
        "heldout": {"pieces_own": 6, "works_own": 3, "pieces_others": 8, "works_others": 4, "authors_others": 2},
    }
    by_name = {piece.cluster: number for piece, number in zip(found.every, found.cluster_P, strict=True)}
    assert len(by_name) == len(set(by_name.values())) == 6 + 4
    assert found.own_P.sum() == 12 and (found.on("train") ^ found.on("heldout")).all()


def test_works_that_were_left_out_stay_named() -> None:
    data = dataclasses.replace(authors(), left_out=("Zeno/Quote: why",))
    assert pieces(data, TOKENIZER, CUT).some("train", 1).left_out == ("Zeno/Quote: why",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 7}, "ranking.pieces.tokens 7 is too few"),
        ({"per_work": 0}, "ranking.pieces.per_work 0 is not allowed"),
        ({"heldout_share": 0.0}, "ranking.pieces.heldout_share 0.0 is not between 0 and 1"),
        ({"heldout_share": 1.0}, "ranking.pieces.heldout_share 1.0 is not between 0 and 1"),
    ],
)
def test_bad_values_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(CUT, **changes)  # pyright: ignore[reportArgumentType]


def test_a_work_without_a_token_to_score_is_refused() -> None:
    data = authors()
    short = authors_data("Zeno", [*data.own, Work("Zeno", "Short", None, "a")], data.others)
    assert len(pieces(short, TOKENIZER, CUT).every) == 29  # BOS predicts its only letter
    with pytest.raises(UserError, match=re.escape("Zeno/Short has 1 tokens, too few to score one")):
        pieces(short, byte_tokenizer(bos=False), CUT)
