"""What is said beside other models: every file has its keys, and what lacks a reference is named and null."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from evaluated import evaluated, material, settings, texts
from toy import byte_tokenizer, llama

from menard_unlearn.evaluation import (
    anachronism,
    attribution,
    counterfactual,
    curves,
    cutoff,
    dating,
    extraction,
    fluency,
    heat,
    near_verbatim,
    prompted,
    question_scores,
    reproduction,
    residue,
    surprisal,
    utility,
)
from menard_unlearn.evaluation.compare import KEYS, NEEDS, Reference, compare, write_ngram
from menard_unlearn.evaluation.suite import evaluate_told

TABLES: dict[str, Mapping[str, str]] = {
    "attribution": attribution.KEYS,
    "compared": KEYS,
    "counterfactual": counterfactual.KEYS,
    "dating": dating.KEYS,
    "extraction": extraction.KEYS,
    "heat": heat.KEYS,
    "near_verbatim": near_verbatim.KEYS,
    "prompted": prompted.KEYS,
    "questions": question_scores.KEYS,
    "reproduction": reproduction.KEYS,
    "residue": residue.KEYS,
    "surprisal": surprisal.KEYS,
    "utility": utility.KEYS,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four models by themselves and a told one, each in a folder of its kind."""
    folder, what, config = tmp_path_factory.mktemp("study"), material(texts()), settings()
    for seed, kind in enumerate(("own", "base", "gold", "without_target")):
        model = llama(seed=seed)
        evaluated(model, folder / kind, what, config, {"lm_head.weight": model.lm_head.weight.detach() * 1.1})
    evaluate_told(llama(seed=1), byte_tokenizer(), what.probes, config, folder / "prompted")
    write_ngram(folder / "base", what, config)
    return folder


def found(study: Path, *kinds: str) -> dict[str, dict]:
    """What each file of the model holds beside these references."""
    for name in ("prompted", "compared", "counterfactual"):
        (study / "own" / f"{name}.json").unlink(missing_ok=True)
    compare(study / "own", {kind: Reference(study / kind) for kind in kinds}, material(texts()), settings())
    return {path.stem: json.loads(path.read_text()) for path in (study / "own").glob("*.json")}


def test_each_file_has_its_keys(study: Path) -> None:
    files = found(study, *NEEDS)
    for name, keys in TABLES.items():
        assert files[name].keys() == keys.keys(), name
    assert files["cutoff"].keys() == {f"{prefix}{key}" for prefix in curves.PROBES for key in cutoff.MEASURES}
    assert all(kind.keys() == cutoff.MEASURES.keys() for kind in files["kinds"].values())
    assert files["generation"]["fluency"].keys() == fluency.KEYS.keys()
    assert files["generation"]["anachronisms"].keys() == anachronism.KEYS.keys()
    compared = files["compared"]
    for key in ("surprisal_to_base", "surprisal_to_gold"):
        assert compared[key].keys() == surprisal.AGAINST_KEYS.keys()
    assert compared["residue_to_base"].keys() == residue.AGAINST_KEYS.keys()
    assert compared["attribution_to_without_target"].keys() == attribution.EXCESS.keys()


def test_with_all_references_nothing_is_left_out(study: Path) -> None:
    files = found(study, *NEEDS)
    assert files["compared"]["left_out"] == []
    assert files["compared"]["surprisal_to_base"]["level_difference"] is not None
    assert files["counterfactual"]["counterfactual_nats"] is not None
    assert files["counterfactual"]["bits_per_byte_ngram"] is not None
    assert files["cutoff"]["distance_to_gold"] is not None


@pytest.mark.parametrize("kind", NEEDS)
def test_what_lacks_a_reference_is_named_and_nothing_takes_its_place(study: Path, kind: str) -> None:
    whole, files = found(study, *NEEDS), found(study, *(set(NEEDS) - {kind}))
    assert files["compared"]["left_out"] == [NEEDS[kind]]
    lost = {
        "base": [
            *(files["compared"]["surprisal_to_base"].values()),
            files["cutoff"]["base_recall_before"],
            files["cutoff"]["cutoff_change_status"],
            files["counterfactual"]["bits_per_byte_ngram"],
        ],
        "gold": [*files["compared"]["surprisal_to_gold"].values(), files["cutoff"]["distance_to_gold"]],
        "without_target": [
            *files["compared"]["attribution_to_without_target"].values(),
            files["counterfactual"]["counterfactual_nats"],
        ],
        "prompted": [files.get("prompted")],
    }
    assert set(lost[kind]) == {None}
    kept = {other: values for other, values in lost.items() if other != kind}
    assert all(any(value is not None for value in values) for values in kept.values())
    assert whole["surprisal"] == files["surprisal"]
