"""What `menard features` prints: the figures of its files, in a few lines each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from menard_unlearn.features.sae import Sae

ABSENT = "–"
SHOWN = 5
"""Candidates, and controls, of which so many are printed; the files hold all."""


def tell_sae(sae: Sae, found: Mapping[str, Any]) -> str:
    """An autoencoder in a line."""
    recovered = " and ".join(
        f"{_number(found[f'loss_recovered_{kind}'])} of the loss ({kind}-ablation)" for kind in ("zero", "mean")
    )
    return (
        f"autoencoder of layer {sae.layer}, {sae.n_features} features: L0 {_number(found['l0'], 1)}, "
        f"FVU {_number(found['fvu'])}, dead {_number(found['dead_share'])} of {found['n_tokens']} tokens, "
        f"recovers {recovered}"
    )


def tell_ranking(found: Mapping[str, Any]) -> str:
    """The candidates that do most, and what is said of the chosen one."""
    rows = sorted(found["rows"], key=lambda row: -row["causal"])[:SHOWN]
    lines = _aligned(
        ("feature", "AUROC", "held out", "95% interval", "causal", "95% interval", "random ≥"),
        [
            (
                f"{row['feature']}{' *' if row['feature'] == found['chosen'] else ''}",
                _number(row["auroc"]),
                _number(row["auroc_heldout"]),
                interval(row, "auroc_heldout"),
                _number(row["causal"]),
                interval(row, "causal"),
                _number(row["random_at_least"], 2),
            )
            for row in rows
        ],
    )
    held = found["heldout"]
    judged = "" if held is None else f"; held out: causal {_number(held['causal'])}, p {_number(held['p'])}"
    return "\n".join([f"{found['author']}: {found['status']}{judged}", *lines, *_left(found)])


def tell_dose(found: Mapping[str, Any]) -> str:
    """The doses of the feature, and of the controls at the best one."""
    best = found["best_k"]
    rows = [row for row in found["rows"] if not row["kind"].startswith("random")]
    lines = _aligned(
        ("under", "k", "Δ nats/token", "95% interval", "S", "95% interval", "coherence"),
        [
            (
                row["kind"],
                _number(row["k"], 2),
                _number(row["delta"]),
                interval(row, "delta"),
                _number(row["steering"]),
                interval(row, "steering"),
                _number(row["coherence"], 2),
            )
            for row in rows
        ],
    )
    chance = (
        f"random features that do as well {_number(found['random_features_at_least'], 2)}, "
        f"random directions {_number(found['random_directions_at_least'], 2)}, p {_number(found['p_value'])}"
    )
    plain = found["unclamped"]
    return "\n".join(
        [
            f"dose of feature {found['feature']} on {found['target_name']} "
            f"({_number(plain['nats_per_token'])} nats a token, coherence {_number(plain['coherence'], 2)}): "
            f"{found['status']}, best k {_number(best, 2)}; {chance}",
            *lines,
            *_left(found),
        ]
    )


def tell_tokens(found: Mapping[str, Any]) -> str:
    """The target under each intervention."""
    columns = [*found["columns"], *found["controls"][:SHOWN]]
    lines = _aligned(
        ("under", "k", "nats", "saved", "first choice", "raised", "helped"),
        [
            (
                column["name"],
                _number(column["k"], 2),
                _number(column["nats"], 1),
                _number(column["nats_saved"], 1),
                _number(column["share_rank1"]),
                _number(column["share_raised"]),
                _number(column["share_helped"]),
            )
            for column in columns
        ],
    )
    chance = f"helped by chance {_number(found['chance'])} of {found['n_tokens']} tokens"
    return "\n".join([f"{found['target_name']} token by token; {chance}", *lines, *_left(found)])


def tell_joint(rows: Sequence[Mapping[str, Any]]) -> str:
    """The joint table."""
    lines = _aligned(
        (
            "context",
            "model",
            "clamp",
            "nats/token",
            "first",
            "prefix",
            "C1/token",
            "Menard",
            "gain",
            "unlocked",
            "verdict",
        ),
        [
            (
                row["context_tokens"],
                row["model"],
                row["clamp"],
                _number(row["nats_per_token"]),
                _number(row["share_rank1"], 2),
                ABSENT if row["greedy_prefix"] is None else row["greedy_prefix"],
                _number(None if row["counterfactual_nats"] is None else row["counterfactual_nats"] / row["n_tokens"]),
                _number(row["menard_fraction"], 2),
                with_interval(row, "gain"),
                with_interval(row, "unlocked"),
                row["verdict"] or ABSENT,
            )
            for row in rows
        ],
    )
    return "\n".join(lines)


def with_interval(row: Mapping[str, Any], key: str) -> str:
    """`0.12 [0.10, 0.14]`."""
    return f"{_number(row[key])} {interval(row, key)}" if row[key] is not None else ABSENT


def interval(row: Mapping[str, Any], key: str) -> str:
    """`[0.1, 0.3]`, or a dash where there is none."""
    low, high = row[f"{key}_low"], row[f"{key}_high"]
    return ABSENT if low is None or high is None else f"[{_number(low)}, {_number(high)}]"


def _number(value: float | None, digits: int = 3) -> str:
    return ABSENT if value is None else f"{value:.{digits}f}"


def _aligned(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    cells = [list(heads), *([str(value) for value in row] for row in rows)]
    widths = [max(len(row[place]) for row in cells) for place in range(len(heads))]
    return [
        "  " + "  ".join(f"{value:<{width}}" for value, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _left(found: Mapping[str, Any]) -> list[str]:
    return [f"  not computed: {line}" for line in found["left_out"]]
