"""Sections of the files that `menard features` and `menard context` write."""

from __future__ import annotations

from results_parts import Section, fields_of

from menard_unlearn.context import keys
from menard_unlearn.features import causal, dose, dsg, joint, ranking, sae_metrics, token_scores

ASIDES = (
    Section(
        "sae.json",
        "How well the sparse autoencoder stands for the layer, on windows that it was not trained on. Its training is "
        "in history.jsonl. Zero-ablation flatters: removing a layer's output ruins any model.",
        {"": sae_metrics.KEYS},
    ),
    Section(
        "features.json",
        "Candidates for an author's feature, what they tell on held-out works and authors, and what they do when they "
        "are clamped. The choice is the best of many: only `heldout` says whether it is better than luck. Controls of "
        "another era or language give a feature of that, not of the author.",
        {
            "": causal.KEYS,
            "Entries of `rows`": fields_of(ranking.FeatureRow) | causal.EFFECT_KEYS,
            "`heldout`": causal.HELDOUT_KEYS,
            "Entries of `random`": causal.RANDOM_KEYS,
        },
    ),
    Section(
        "dose_response.json",
        "The target under clamps of each strength (after Scaling Monosemanticity), beside the difference of means, "
        "which often does better (AxBench, arXiv 2501.17148), and random controls of the same dose. best_k is the best "
        "of several, which flatters it a little.",
        {"": dose.KEYS, "Entries of `rows`": dose.ROW_KEYS},
    ),
    Section(
        "feature_tokens.json",
        "The target token by token under each edit. Words stand there only where the target is published. A token is "
        "helped by chance as often as `chance` says.",
        {
            "": token_scores.KEYS,
            "Entries of `columns` and `controls`": token_scores.COLUMN_KEYS,
            "Entries of `tokens`": token_scores.TOKEN_KEYS,
        },
    ),
    Section(
        "joint.json",
        "Models, clamps and contexts on one text: `target_name`, `target_sha256`, `author`, `features`, `k`, `rows` "
        "and `left_out`. Whether a clamp unlocks memory is said only beside a model that never saw the text.",
        {"Entries of `rows`": joint.KEYS},
    ),
    Section(
        "context.json",
        "What the target costs after more and more context (D), the law fitted to it, and the length that it would "
        "need. A law is extrapolated far beyond what was measured: a status, P(C* = ∞) and the other forms belong to "
        "every length. context_tokens.npz holds ln p of every token: `<model>/<kind>`, by draw, length and token.",
        {
            "": keys.FILE,
            "Objects of `models`": keys.MODEL,
            "Rows of `curve`": keys.CURVE,
            "`law`": keys.LAW,
            "`answer` and entries of `further_answers`": keys.ANSWER,
            "`forms`": keys.FORMS,
            "`claim`": keys.CLAIM,
            "Objects of `placebos`": keys.PLACEBO,
        },
    ),
    Section(
        "guardrail.json",
        "Of a run of `menard features guard`, beside the files of every method: which features are clamped, and on "
        "which share of held-out documents and tokens (DSG, arXiv 2504.08192).",
        {"": dsg.KEYS},
    ),
)
