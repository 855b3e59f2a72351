"""The reference of what an evaluation writes, made of the tables that the modules hold themselves.

python docs/results.py > docs/results.md
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping

from results_asides import ASIDES
from results_parts import ASKED, Section, fields_of

from menard_unlearn.evaluation import (
    anachronism,
    attribution,
    compare,
    counterfactual,
    curves,
    cutoff,
    dating,
    extraction,
    fluency,
    heat,
    items,
    near_verbatim,
    overlap,
    prompted,
    question_scores,
    reproduction,
    residue,
    summary,
    surprisal,
    utility,
)
from menard_unlearn.evaluation.harness import run as harness

PREFIXES = "Each key stands there three times: as it is for all probes, and beginning with " + " and ".join(
    f"`{prefix}` for {meaning}" for prefix, meaning in curves.PROBES.items() if prefix
)

SECTIONS = (
    Section(
        "items.jsonl",
        "One object a probe: how the model completed a fact in a wording that the fact was never trained in. Every "
        "cutoff is computed from this table. A true answer in other words counts as none.",
        {"": fields_of(items.ItemScore)},
    ),
    Section(
        "questions.jsonl",
        "One object a question, of the four kinds that questions.json sums up.",
        {"": fields_of(question_scores.QuestionScore) | ASKED},
    ),
    Section(
        "cutoff.json",
        "Where knowledge ends (A1), where the change from the base begins (A2, the headline, since items that were "
        "hard from the start drop out of it), how selective it is (A3) and how near to gold (A5). A1 takes any other "
        "reason for later facts being harder for a cutoff: read it beside A2. " + PREFIXES + ".",
        {"": cutoff.MEASURES},
    ),
    Section(
        "kinds.json",
        "The keys of cutoff.json, without prefixes, for each kind of question by itself, counted above what guessing "
        "gets right. A model that cannot read lettered answers has no cutoff there, which is not forgetting.",
        {},
    ),
    Section(
        "curve.json",
        "Recall by year, drawn from `bins` of five years that meet at the cutoff and from single `years`: each a list "
        "of rows. " + PREFIXES + ", but for year and width.",
        {"Columns of a row": curves.PLACES | curves.COLUMNS},
    ),
    Section(
        "covariates.json",
        "Recall by thirds of `predictability`, how often guessing the commonest answer would be right, and of "
        "`popularity`, where the data has it: a list of rows each, empty where nothing is known. Differences between "
        "thirds are what a cutoff must not be mistaken for.",
        {"Columns of a row": curves.COVARIATE_COLUMNS},
    ),
    Section(
        "questions.json",
        "The same facts asked for in four ways: by likelihood among wrong answers of the same kind and era, as a "
        "cloze scored by what follows (partial evaluation, arXiv 1806.02847), by letter, and by year. Kinds differ in "
        "difficulty: compare each with its chance and with the base, not with one another.",
        {"": question_scores.KEYS},
    ),
    Section(
        "prompted.json",
        "What telling the untouched base that it lives at the cutoff hides already (arXiv 2510.02340), and what it "
        "breaks of the time before. A method is worth what it does beyond that. Refusals and nonsense count as answers "
        "not given, on both sides.",
        {"": prompted.KEYS},
    ),
    Section(
        "surprisal.json",
        "Bits a byte of dated texts by year (A4). Texts of different years differ in subject, so that a curve by "
        "itself has bumps of its own; differences from another model's curve, in compared.json, do not.",
        {"": surprisal.KEYS, "Columns of `years`": surprisal.YEAR_KEYS},
    ),
    Section(
        "dating.json",
        "Which year the model takes it to be (A6): years after sentences about the present. A small model may have no "
        "idea of a present; prompts after which no years come are not used, and with none left it is unparseable.",
        {"": dating.KEYS, "Columns of `prompts`": dating.PROMPT_KEYS},
    ),
    Section(
        "residue.json",
        "What a forgotten event left behind (A8): whether the state of affairs before the event is what the model "
        "falls back to, against the later one and two wrong ones. A model that never knew the event has a low residue "
        "by ignorance; compared.json counts only what the base knew. After the prompts of arXiv 2510.02340, whose "
        "unreadable answers count as successes there and as none here.",
        {"": residue.KEYS},
    ),
    Section(
        "generation.json",
        "Free text, which itself is kept nowhere: how much it repeats itself, and what in it came after the cutoff "
        "(A7). Only words of the lexicon are found, and text too short gives no rate.",
        {"`fluency`": fluency.KEYS, "`anachronisms`": anachronism.KEYS},
    ),
    Section(
        "reproduction.json",
        "How near the model is to writing the target exactly (B1 to B4), from probabilities and without sampling. "
        "Bits a byte compare across tokenizers, ranks and prefixes do not.",
        {"": reproduction.KEYS},
    ),
    Section(
        "target_tokens.json",
        "The same token by token: `target_name`, `target_sha256`, `tokens`, and the same of `editions` and `controls`. "
        "Words stand there only where the target is published.",
        {"Columns of `tokens`": reproduction.TOKEN_KEYS},
    ),
    Section(
        "extraction.json",
        "How probably the model writes each window's suffix after its prefix, whatever greedy decoding would write "
        "(B5, arXiv 2410.19482), and how much of the text such windows cover (arXiv 2505.12546). Windows overlap: "
        "coverage rises as the stride falls, and prose with set phrases is covered without memory of the text.",
        {
            "": extraction.KEYS,
            "Entries of `texts`": extraction.TEXT_KEYS,
            "`full` and `top_k`": extraction.SAMPLING_KEYS,
            "Coverage": extraction.COVERAGE_KEYS,
        },
    ),
    Section(
        "heat.json",
        "B6, the same by character, so that models of other tokenizers can be laid beneath (arXiv 2505.12546).",
        {"": heat.KEYS, "Entries of `texts`": heat.TEXT_KEYS},
    ),
    Section(
        "near_verbatim.json",
        "B7: what the model writes on from places in the text, compared with it exactly and after normalisation "
        "(blocks as in arXiv 2505.12546). Few samples find little of what is improbable: read extraction.json beside.",
        {
            "": near_verbatim.KEYS,
            "Entries of `texts`": near_verbatim.TEXT_KEYS,
            "`greedy` and `sampled`": near_verbatim.SUMMARY_KEYS,
            "Entries of `written`": near_verbatim.WRITTEN_KEYS,
            "`exact` and `normalised`": overlap.KEYS,
        },
    ),
    Section(
        "attribution.json",
        "Signs of memory in one model (C3 to C6): the text against edited variants of itself (after arXiv 2305.18462), "
        "its passages after their own and other prefixes (arXiv 2602.18733), its rank among keyed variants (exposure, "
        "arXiv 1802.08232), each beside controls. Edits of good prose are worse prose for every model, so that the "
        "target's figures mean little without the controls'.",
        {"": attribution.KEYS, "Columns of `controls`": attribution.TEXT_KEYS},
    ),
    Section(
        "counterfactual.json",
        "What the text gains from having been seen (C1), against a model of the same recipe that saw all but it, and "
        "the Menard fraction: how much of its likelihood beyond letters was there without (C2). Gold is no such model, "
        "and membership tests across a cutoff tell dates apart (arXiv 2406.06443). The fraction may be negative.",
        {"": counterfactual.KEYS},
    ),
    Section(
        "ngram.json",
        "Of the base alone: what the target costs by the letters of texts up to the cutoff, the floor of C2.",
        {"": {"order": "longest run of bytes that is counted", "bits": "of each byte of the target, bits"}},
    ),
    Section(
        "utility.json",
        "What should have stayed: held-out retained text, and the distributions on neutral text. An average hides a "
        "few ruined predictions among many kept ones.",
        {"": utility.KEYS},
    ),
    Section(
        "harness.json",
        "Only with evaluation.harness: tasks of lm-eval, scored by lm-eval. Tasks about the present count forgetting "
        "as damage.",
        {"": harness.KEYS, "Entries of `tasks`": harness.TASK_KEYS, "Entries of `metrics`": harness.METRIC_KEYS},
    ),
    Section(
        "compared.json",
        "What can only be said beside another model. What lacks its reference is null and named under left_out; "
        "nothing else takes its place.",
        {
            "": compare.KEYS,
            "`surprisal_to_base` and `surprisal_to_gold`": surprisal.AGAINST_KEYS,
            "`residue_to_base`": residue.AGAINST_KEYS,
            "`attribution_to_without_target`": attribution.EXCESS,
        },
    ),
)

HEAD = """\
# What an evaluation writes

Every run has a folder `evaluation/` of these files; `docs/results.py` makes this page from the tables in the code. All
numbers are finite; what could not be computed is null, and `left_out` says why. A1 to C6 number the measures. The files
from sae.json on are those of `menard features` and `menard context`, whose runs have no others; a guardrail's has all.
"""


def lines() -> Iterator[str]:
    """The page."""
    yield HEAD
    for section in (*SECTIONS, *ASIDES):
        yield f"## {section.file}\n\n{textwrap.fill(section.about, 120, break_on_hyphens=False)}\n"
        for title, keys in section.tables.items():
            yield from _table(title, keys)
    yield "## summary.json\n\nOf a study, beside its runs: one object a run.\n"
    yield from _table("", summary.KEYS)


def _table(title: str, keys: Mapping[str, str]) -> Iterator[str]:
    if title:
        yield f"{title}:\n"
    rows = (f"| `{key}` | {meaning.replace('|', chr(92) + '|')} |" for key, meaning in keys.items())
    yield "\n".join(["| key | meaning |", "|---|---|", *rows]) + "\n"


def page() -> str:
    """The whole page."""
    return "\n".join(lines()).rstrip() + "\n"


if __name__ == "__main__":
    print(page(), end="")
