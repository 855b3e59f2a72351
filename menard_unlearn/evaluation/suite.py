"""The evaluation of one model by itself: one pass over everything that is only scored, then what has to be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.evaluation.anachronism import anachronisms
from menard_unlearn.evaluation.attribution import measure_attribution
from menard_unlearn.evaluation.config import EvaluationConfig
from menard_unlearn.evaluation.dating import measure_dating
from menard_unlearn.evaluation.extraction import measure_extraction
from menard_unlearn.evaluation.fluency import fluency
from menard_unlearn.evaluation.generation import write
from menard_unlearn.evaluation.harness.run import run_tasks
from menard_unlearn.evaluation.heat import measure_heat
from menard_unlearn.evaluation.items import Probe, item_scores, score_probes, write_items
from menard_unlearn.evaluation.material import Material, Plan
from menard_unlearn.evaluation.near_verbatim import near_verbatim
from menard_unlearn.evaluation.question_scores import measure_questions, summary
from menard_unlearn.evaluation.reproduction import reproduce_all
from menard_unlearn.evaluation.residue import measure_residue
from menard_unlearn.evaluation.surprisal import measure_surprisal
from menard_unlearn.evaluation.target import Target
from menard_unlearn.evaluation.tokens import pad_id
from menard_unlearn.evaluation.utility import utility
from menard_unlearn.files import write_json
from menard_unlearn.models.scores import Scores, score


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    material: Material,
    base_tensors: Mapping[str, Tensor] | None,
    config: EvaluationConfig,
    out: Path,
) -> None:
    """Measure a model and write what was found to `out`, a file an instrument (docs/results.md lists their keys).

    `base_tensors` are the base's values of the tensors that differ from the model's; None for the base itself. What
    compares with another model is `compare`'s. The target comes first, so that one which is too long is refused before
    the long work.
    """
    if material.target is not None:
        reproduction, tokens = reproduce_all(model, tokenizer, material.target, config.reproduction, config.chunk)
        write_json(out / "reproduction.json", reproduction)
        write_json(out / "target_tokens.json", tokens)
    plan = Plan.of(model, tokenizer, material, config)
    scores = run(model, tokenizer, plan, config)
    for name, content in measures(plan, scores, material, config, out).items():
        write_json(out / f"{name}.json", content)
    if material.target is not None:
        found = near_verbatim(model, tokenizer, material.target, config.near_verbatim, batch_size=config.batch_size)
        write_json(out / "near_verbatim.json", found)
    write_json(out / "generation.json", generated(model, tokenizer, material.target, material.cutoff_year, config))
    kept = utility(
        model,
        tokenizer,
        material.retain_texts,
        material.neutral_texts,
        plan.retain,
        scores,
        base_tensors,
        batch_size=config.batch_size,
        chunk=config.chunk,
    )
    write_json(out / "utility.json", kept)
    if config.harness is not None:
        write_json(out / "harness.json", run_tasks(model, tokenizer, config.harness))


def run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, plan: Plan, config: EvaluationConfig) -> Scores:
    """One pass for everything; the windows, whose contexts begin no other's, in a call that also ranks their top k."""
    padding = pad_id(tokenizer)
    items = [item for part in plan.parts.values() for item in part]
    scores = score(model, items, batch_size=config.batch_size, chunk=config.chunk, padding=padding)
    if plan.windows is None:
        return scores
    windows = score(
        model,
        plan.windows.items,
        batch_size=config.batch_size,
        chunk=config.chunk,
        padding=padding,
        top_k=config.extraction.top_k,
    )
    return scores.with_others(windows)


def measures(plan: Plan, scores: Scores, material: Material, config: EvaluationConfig, out: Path) -> dict[str, dict]:
    """File → its content, of all that the pass tells; probes and questions are written item by item."""
    year = material.cutoff_year
    write_items(out / "items.jsonl", item_scores(material.probes, plan.probes, scores))
    asked = measure_questions(plan.questions, scores)
    write_items(out / "questions.jsonl", asked)
    found = {
        "questions": summary(plan.questions, asked),
        "residue": measure_residue(plan.residue, scores),
        "surprisal": measure_surprisal(plan.surprisal, scores, config.surprisal, year),
        "dating": measure_dating(plan.dating, scores, config.dating, year),
    }
    if plan.windows is not None and plan.heat is not None:
        replicates, seed = config.bootstrap, config.seed
        found["extraction"] = measure_extraction(plan.windows, scores, replicates=replicates, seed=seed)
        found["heat"] = measure_heat(plan.heat, scores)
    if plan.attribution is not None:
        found["attribution"] = measure_attribution(plan.attribution, scores)
    return found


def generated(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    target: Target | None,
    cutoff_year: int,
    config: EvaluationConfig,
) -> dict:
    """What goes into generation.json: fluency and anachronisms of free text, which itself is kept nowhere."""
    written = write(model, tokenizer, config.generation, batch_size=config.batch_size)
    texts = () if target is None or target.publish else (target, *target.editions, *target.controls)
    found = anachronisms(
        [text.text for text in written],
        cutoff_year,
        min_words=config.generation.min_words,
        hidden=[text.whole for text in texts],
    )
    return {"fluency": fluency(written), "anachronisms": found}


def evaluate_told(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    probes: Sequence[Probe],
    config: EvaluationConfig,
    out: Path,
) -> None:
    """Write items.jsonl of probes that begin with a preamble; a model that is merely told has nothing else."""
    found = score_probes(model, tokenizer, probes, batch_size=config.batch_size, chunk=config.chunk)
    write_items(out / "items.jsonl", found)
