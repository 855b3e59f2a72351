"""`menard features guard`: a guardrail over the features of what is to be forgotten, judged as every method is.

Nothing is trained but the autoencoder: the model's weights stay as they are, and its states are edited while it runs.
"""

from __future__ import annotations

import time

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.summary import write_summary
from menard_unlearn.features.clamp import fitted
from menard_unlearn.features.dsg import fit_guardrail, measure_guardrail
from menard_unlearn.features.hooks import special_ids
from menard_unlearn.features.interchange import load_sae
from menard_unlearn.features.steering import applied
from menard_unlearn.files import write_json
from menard_unlearn.models.load import load
from menard_unlearn.run import RunDir
from menard_unlearn.stages.data import token_items
from menard_unlearn.stages.features import find
from menard_unlearn.stages.features.chosen import find_first
from menard_unlearn.stages.features.job import WINDOW, FeaturesJob
from menard_unlearn.stages.measure import judge, score
from menard_unlearn.stages.references import references
from menard_unlearn.stages.table import print_table

NAME = "dsg"
SIDES = ("forget", "retain", "heldout_forget", "heldout_retain")


def place(job: FeaturesJob) -> RunDir:
    """Where the run lies."""
    return _place(job)[1]


def _place(job: FeaturesJob) -> tuple[str, RunDir]:
    return job.place(NAME, guardrail=job.settings.plain["guardrail"])


def do(job: FeaturesJob) -> None:
    """Fit the guardrail on trained items, measure it on held-out ones, evaluate the model under it."""
    find_first(job)
    identity, run = _place(job)
    known = references(job.prepared)
    with job.tracked(NAME, run, identity) as tracking:
        started = time.perf_counter()
        loaded = load(job.settings.model)
        sae = fitted(loaded.model, load_sae(find.sae_folder(find.place(job))))
        special = special_ids(loaded.model, loaded.tokenizer)
        items = _items(job)
        sides = ("forget", "retain")
        guardrail = fit_guardrail(loaded.model, sae, items["forget"], items["retain"], special, job.guardrail)
        forget, retain = (items[f"heldout_{side}"] or items[side] for side in sides)
        figures = measure_guardrail(loaded.model, sae, guardrail, forget, retain, special, job.guardrail.batch_size)
        figures["left_out"] = [
            f"{side}: nothing is held out, what the guardrail was fitted on is measured (split.heldout_fraction)"
            for side in sides
            if not items[f"heldout_{side}"]
        ]
        write_json(run.evaluation_dir / "guardrail.json", figures)
        print(
            f"{len(guardrail.features)} features guarded, threshold {guardrail.tau:.3f}: clamps "
            f"{figures['tokens_forget']:.1%} of the tokens to forget, {figures['tokens_retain']:.1%} of those to keep",
            flush=True,
        )
        with applied(loaded.model, sae.layer, guardrail.intervention(sae), special):
            # No weight differs from the base's: the divergence is that of the edit
            score(job.prepared, loaded, {}, run.evaluation_dir)
        judge(job.prepared, run.evaluation_dir, known.found)
        job.finish(run, identity, time.perf_counter() - started, tracking)
    rows = write_summary(job.settings.study_dir)
    print_table([row for row in rows if row["run"] == run.path.name])


def _items(job: FeaturesJob) -> dict[str, list]:
    """What each side of the split holds, in windows."""
    data = job.prepared.data
    found = {side: token_items(job.tokenizer, data.trained(getattr(data.split, side)), WINDOW) for side in SIDES}
    for side in ("forget", "retain"):
        if not found[side]:
            raise UserError(f"the split has nothing to {side}: a guardrail needs both sides, see split.cutoff")
    return found
