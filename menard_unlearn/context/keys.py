"""What the keys of context.json mean, in which unit, and when each fails."""

from __future__ import annotations

FILE = {
    "target_name": "what the configuration calls the target",
    "target_sha256": "SHA-256 of the target",
    "lengths": "tokens of context, without BOS, what separates it from the text, and the target's prompt",
    "window": "tokens that every scored model can read at once; null where none sets a limit",
    "made_of": "documents, or statements of the corpus's facts",
    "documents": "number of documents that contexts are drawn from",
    "document_tokens": "their tokens; draws longer than a fifth of them overlap, and their interval is too narrow",
    "excluded": "documents that are not among them, by reason; quoting: they share 8 words (documents.ngram) with the "
    "target, an edition or the control",
    "other_documents": "number of another author's documents; null without that placebo",
    "other_document_tokens": "their tokens",
    "control_name": "text of the placebo `other_target`; null without it",
    "models": "an object a model, by name",
    "left_out": "what was not computed, and why",
}
"""Key of context.json → meaning and unit."""

MODEL = {
    "n_tokens": "scored tokens of the target, T",
    "n_blocks": "blocks of neighbouring tokens that the bootstrap draws; fewer than 5 give no interval",
    "n_draws": "contexts of each kind",
    "no_context": "nats a token of the target after BOS and its prompt alone; not part of the fit",
    "reproduced_without": "whether the target has probability q without any context: it is known by heart",
    "fall": "L(C_min) − L(C_max), nats a token",
    "fall_low": "lower end of its 95% interval, over draws and blocks; null where no interval can be had",
    "fall_high": "upper end",
    "curve": "a row a length",
    "law": "the floor law L∞ + A·C^−β, fitted by least squares to the curve; null where no interval can be had",
    "answer": "the context needed for the first of the probabilities asked for",
    "further_answers": "a row for each further probability",
    "claim": "the claim that the context is N orders of magnitude too small; null where it cannot be tested",
    "placebos": "an object a placebo: shuffled, other, other_target",
    "in_words": "the answer as a sentence",
}
"""Key of a model's object → meaning and unit."""

CURVE = {
    "tokens": "tokens of context, C",
    "nats": "L(C): mean nats a token of the target, over draws",
    "low": "lower end of the 95% interval, over draws and blocks of tokens; null where none can be had",
    "high": "upper end",
    "sd_draws": "standard deviation over draws of a draw's mean; null with one draw",
}
"""Key of a row of `curve` → meaning and unit."""

LAW = {
    "floor": "L∞, nats a token",
    "floor_low": "lower end of its 95% interval",
    "floor_high": "upper end",
    "above": "A·C_max^−β, what is left above the floor at the longest context, nats a token",
    "beta": "β",
    "beta_low": "lower end of its 95% interval",
    "beta_high": "upper end",
    "beta_at_bound": "whether β lies at an end of the range searched, 0.01 to 4: the law does not describe the curve",
    "slope": "dL/dlog10 C at C_max, nats a token and decade",
    "rmse": "root mean square of the residuals, nats a token",
}
"""Key of `law` → meaning and unit."""

ANSWER = {
    "q": "probability of the whole target from which on it counts as reproduced",
    "status": "pinned, infinite, right-censored, reached, flat, rising or undetermined; rules in "
    "statistics/context_needed.py",
    "target_loss": "L* = −ln q / T, nats a token",
    "decades": "log10(C*/C_max); null unless pinned",
    "tokens": "C*, tokens; null unless pinned",
    "p_infinite": "P(C* = ∞): share of replicates whose floor is not below L*",
    "p_reached": "share of replicates that meet L* at C_max or before",
    "quantiles": "2.5% (low), 25, 50, 75 and 97.5% of log10(C*/C_max) on [0, ∞] over replicates: `is` finite, infinite "
    "or reached, and `decades`",
    "at_least": "(L(C_max) − L*) / |dL/dlog10 C|, decades: a lower bound for a curve that flattens",
    "at_least_low": "its 2.5% quantile over replicates",
    "reached_at": "shortest length measured from which on L(C) ≤ L*; null unless reached",
    "forms": "the point estimate by form of the curve, each with the form's residuals",
}
"""Key of an answer → meaning and unit."""

FORMS = {
    "floor": "L∞ + A·C^−β, the answer's own",
    "no_floor": "A·C^−β: some length is always enough",
    "exponential": "L∞ + A·exp(−C/s): saturates soonest, the least hopeful",
    "log_linear": "a − b·log10 C: never saturates, the most hopeful",
    "without_shortest": "the floor law without the shortest length",
    "without_longest": "the floor law without the longest length",
}
"""Key of `forms` → what the curve is taken to be."""

CLAIM = {
    "orders": "N: the claim is that 10^N times C_max would do",
    "implied": "β = log10(L(C_max)/L*)/N, which a law without a floor must have for that",
    "fitted": "β of the law without a floor, fitted; 0.01, the least that is searched, where the curve does not fall",
    "low": "lower end of the 95% interval of fitted − implied",
    "high": "upper end",
    "p_value": "two-sided, of a difference of 0, by the bootstrap; at least 2/(replicates + 1)",
    "verdict": "too hopeful (the loss falls more slowly), too gloomy (faster), or not contradicted",
}
"""Key of `claim` → meaning and unit."""

PLACEBO = {
    "no_context": "nats a token of its text without context",
    "fall": "L(C_min) − L(C_max), nats a token, of the placebo",
    "fall_low": "lower end of its 95% interval",
    "fall_high": "upper end",
    "curve": "as the target's",
    "status": "as the target's, for the first q",
    "beyond": "nats a token by which the target after its own contexts does better: L(C_max) of the placebo minus the "
    "target's; for other_target the target's fall minus the control's",
    "beyond_low": "lower end of its 95% interval, draws and blocks paired; at or below 0, the placebo explains it all",
    "beyond_high": "upper end",
}
"""Key of an object of `placebos` → meaning and unit."""
