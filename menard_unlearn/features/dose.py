"""How much of a feature helps: the target's likelihood over the clamp's strength, beside controls of the same strength.

    S(k) = Δ ln p(target) / T − mean over control texts of Δ ln p(text) / T_text      steering, nats a token
    C(k) = nll of what is written under the clamp, read by the unclamped model         coherence, nats a token

Small doses help a whole text, large ones only the tokens that name the concept while the rest collapses: so k is swept,
effects are told token by token, and the best k is that of the largest S with C(k) ≤ C(0) + limit. It is the largest of
several, which flatters the feature a little: random controls are taken at that k alone.

Legend: T tokens of the target, J control texts, N tokens that doses are measured on, S features, R random directions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.features import coherence
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.dose_bench import Bench
from menard_unlearn.features.dose_config import DoseConfig, DoseTexts
from menard_unlearn.features.dose_effects import CHOICE_KEYS, Effect, best_dose, choice
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.steering import NOTHING, RANDOM, random_features

KEYS = {
    "target_name": "what the configuration calls the target",
    "target_sha256": "SHA-256 of the target",
    "layer": "decoder layer, from 0, after which the stream is changed",
    "feature": "the feature that is clamped",
    **CHOICE_KEYS,
    "coherence_limit": "nats by which C may exceed that of the unclamped model",
    "n_tokens": "scored tokens of the target, T",
    "n_controls": "control texts, J",
    "unclamped": "nats_per_token and controls_nats_per_token of the model as it is, and the keys of what it writes",
    "rows": "a row for each k and intervention: see ROW_KEYS",
    "token_effects": "for each k of `strengths`, the change of each token's log-probability under the clamp, nats",
    "strengths": "the doses, in units of the feature's largest activation",
    "left_out": "what is null, and why",
}
"""Key of dose_response.json → meaning and unit."""

ROW_KEYS = {
    "name": "name of the intervention",
    "kind": "feature, difference_of_means, random_feature or random_direction",
    "k": "dose: a random feature's in units of its own largest activation, a direction's such that its change is as "
    "large as the feature's clamp makes",
    "change_norm": "mean norm of the change of the stream at a token, on the pieces that directions are made from",
    "nats_per_token": "−ln p(target) / T under it",
    "delta": "Δ ln p(target) / T against the unclamped model, nats; above 0 helps",
    "delta_low": "lower end of its 95% interval, blocks of tokens drawn with replacement",
    "delta_high": "upper end; both null where the target has fewer than 5 blocks, as are those of S",
    "controls_delta": "mean over control texts of the same",
    "steering": "S, their difference",
    "steering_low": "lower end of its 95% interval, blocks and the control texts' authors drawn with replacement; too "
    "narrow with few authors",
    "steering_high": "upper end; both null where all control texts are by one author",
    **coherence.KEYS,
}
"""Key of an entry of `rows` → meaning and unit. What random controls write is measured at best_k alone."""


def dose_response(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    sae: Sae,
    feature: int,
    texts: DoseTexts,
    live: Sequence[int],
    special: Collection[int],
    config: DoseConfig,
) -> dict:
    """dose_response.json, keys of `KEYS`; no words of any text are in it. `live` are features that are not dead.

    Raises UserError, before any work, for an SAE or a feature that does not fit, too few live features, no control
    text, and a target or an opening beyond the model's context.
    """
    bench = Bench(model, tokenizer, fitted(model, sae), feature, texts, special, config)
    bench.refuse_unfit()
    random = random_features(live, [feature], config.n_random_features, config.seed)
    effects = [bench.effect(*dose) for dose in bench.doses(random)]
    unclamped = bench.unclamped() | bench.written(NOTHING)
    best_k, rows = _told(bench, effects, unclamped["coherence"])
    found = {
        "target_name": texts.target.name,
        "target_sha256": texts.target.sha256,
        "layer": sae.layer,
        "feature": feature,
        **choice(effects, best_k, config.significance),
        "coherence_limit": config.coherence_limit,
        "n_tokens": len(effects[0].change_T),
        "n_controls": len(texts.controls),
        "unclamped": unclamped,
        "rows": rows,
        "token_effects": [effect.change_T.tolist() for effect in effects if effect.intervention.kind == "feature"],
        "strengths": list(config.strengths),
        "left_out": bench.left_out(best_k, rows),
    }
    return {key: found[key] for key in KEYS}


def _told(bench: Bench, effects: Sequence[Effect], plain: float | None) -> tuple[float | None, list[dict]]:
    """The best dose, and a row an effect. Generation costs the most: random controls write at the best dose alone."""
    rows = [bench.row(effect) for effect in effects]
    for effect, row in zip(effects, rows, strict=True):
        if effect.intervention.kind not in RANDOM:
            row |= bench.written(effect.intervention)
    own = [row for row in rows if row["kind"] == "feature"]
    best_k = best_dose(own, plain, bench.config.coherence_limit)
    for effect, row in zip(effects, rows, strict=True):
        if effect.intervention.kind in RANDOM:
            row |= bench.written(effect.intervention) if row["k"] == best_k else dict.fromkeys(coherence.KEYS)
    return best_k, [{key: row[key] for key in ROW_KEYS} for row in rows]
