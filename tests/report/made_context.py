"""A run of `menard context`, as its stage would leave it, and what all made-up runs have; every number is made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from menard_unlearn.report.joint import OUT

LENGTHS = (64, 128, 256, 512, 1024, 2048, 4096)


def write_aside(folder: Path, name: str, stage: str, found: dict[str, Any]) -> Path:
    """A finished run with these files of evaluation/, and its directory."""
    run = folder / name
    (run / "evaluation").mkdir(parents=True)
    for file, content in found.items():
        (run / "evaluation" / f"{file}.json").write_text(json.dumps(content))
    config = {"stage": stage, "study": folder.name, "model": {"path": "synthetic"}, "sae": {"steps": 400}}
    (run / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    manifest = {"stage": stage, "finished_at": "2001-02-03T04:05:06Z", "results": {}, "seconds": 61.2, "inputs": {}}
    (run / f"{stage}.manifest.json").write_text(json.dumps({**manifest, "peak_memory_mb": 1234.5}))
    return run


def around(key: str, value: float, half: float) -> dict[str, float]:
    """A number and its interval."""
    return {key: value, f"{key}_low": value - half, f"{key}_high": value + half}


def write_context(folder: Path, name: str) -> Path:
    """A run of `context`, with what each draw gave; `base` needs a finite length, the other model has a floor."""
    laws = {"base": (0.0, 3.0, 0.35, "pinned"), OUT: (1.9, 1.1, 0.5, "infinite")}
    draw = np.random.default_rng(0)
    models, arrays = {}, {}
    for model, (floor, above, beta, status) in laws.items():
        mean_L = floor + above * (np.array(LENGTHS) / LENGTHS[0]) ** -beta
        arrays[f"{model}/own"] = -(mean_L[None, :, None] + draw.normal(0, 0.05, (8, len(LENGTHS), 40)))
        models[model] = context_model(mean_L.tolist(), floor, beta, status)
    about = {
        "target_name": "Made up",
        "target_sha256": "0" * 64,
        "lengths": list(LENGTHS),
        "window": 8192,
        "made_of": "documents",
        "documents": 61,
        "document_tokens": 612_000,
        "excluded": {"after the cutoff": 8, "quoting": 1},
        "other_documents": 14,
        "other_document_tokens": 90_000,
        "control_name": "unseen",
        "models": models,
        "left_out": [],
    }
    run = write_aside(folder, name, "context", {"context": about})
    np.savez_compressed(run / "evaluation" / "context_tokens.npz", **arrays)
    return run


def context_model(nats: list[float], floor: float, beta: float, status: str) -> dict[str, Any]:
    """An object of `models` of context.json."""
    finite = status == "pinned"
    level = 0.25
    decades = 2.1 if finite else None
    told = {"is": "finite", "decades": 1.7} if finite else {"is": "infinite", "decades": None}
    names = ("low", "lower_quartile", "median", "upper_quartile", "high")
    quantiles: dict[str, Any] = dict.fromkeys(names, told)
    if finite:
        quantiles["high"] = {"is": "finite", "decades": 2.6}
    answer = {
        "q": 0.5,
        "status": status,
        "target_loss": level,
        "decades": decades,
        "tokens": None if decades is None else LENGTHS[-1] * 10**decades,
        "p_infinite": 0.01 if finite else 0.99,
        "p_reached": 0.0,
        "quantiles": quantiles,
        "at_least": told,
        "at_least_low": told,
        "reached_at": None,
        "forms": {form: {**told, "rmse": 0.012} for form in ("floor", "no_floor", "exponential")},
    }
    law = {**around("floor", floor, 0.05), "above": nats[-1] - floor, **around("beta", beta, 0.06)}
    placebos = {
        kind: {
            "no_context": 3.3,
            **around("fall", 0.2, 0.05),
            "curve": _curve([3.1 + worse - 0.03 * place for place in range(len(LENGTHS))]),
            "status": "flat",
            **around("beyond", nats[0] - nats[-1] - 0.2, 0.1),
        }
        for kind, worse in (("shuffled", 0.0), ("other", 0.15), ("other_target", -0.4))
    }
    claim = {"orders": 5, "implied": 0.216, "fitted": 0.31, "low": 0.05, "high": 0.14, "p_value": 0.004}
    return {
        "n_tokens": 611,
        "n_blocks": 12,
        "n_draws": 8,
        "no_context": 3.3,
        "reproduced_without": False,
        **around("fall", nats[0] - nats[-1], 0.1),
        "curve": _curve(nats),
        "law": {**law, "beta_at_bound": False, "slope": -0.3, "rmse": 0.012},
        "answer": answer,
        "further_answers": [{**answer, "q": 0.001, "decades": 1.4}] if finite else [],
        "claim": {**claim, "verdict": "too gloomy"} if finite else None,
        "placebos": placebos,
        "in_words": f"{status}: made up words about {LENGTHS[-1]:,} tokens.",
    }


def _curve(nats: list[float]) -> list[dict[str, Any]]:
    return [
        {"tokens": length, "nats": value, "low": value - 0.06, "high": value + 0.06, "sd_draws": 0.05}
        for length, value in zip(LENGTHS, nats, strict=True)
    ]
