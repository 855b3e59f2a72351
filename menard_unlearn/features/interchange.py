"""SAEs on the disk, in the format of SAELens: sae_weights.safetensors and cfg.json.

What the format has no place for, the largest activation of each feature, lies in a file beside them, bound to the
weights by their digest. Read are the architectures `jumprelu` (to which BatchTopK is saved), `topk` and `standard`.

Legend: D width, F features.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import Sae, layer_of
from menard_unlearn.features.sae_trainable import folded
from menard_unlearn.files import digest_file, from_here, write_json
from menard_unlearn.files import replace as write

WEIGHTS = "sae_weights.safetensors"
CONFIG = "cfg.json"
SCALE = "menard_scale.safetensors"
FACTOR = "activation_scaler.json"
"""Where SAELens keeps the factor that activations were multiplied by in a training that was not finished."""
FORMAT_VERSION = "6.54.12"
"""Of SAELens; without one its reader would take the files for those of before 6.0."""
PLAIN = "hook_resid_post"


def save_sae(sae: Sae, folder: Path) -> None:
    """Write the SAE, in fp32: `load_sae` gives it back to the bit, and sae-lens reads it."""
    sae = sae.to("cpu")
    tensors = {"W_enc": sae.W_enc_DF, "b_enc": sae.b_enc_F, "W_dec": sae.W_dec_FD, "b_dec": sae.b_dec_D}
    own: dict[str, Any] = {}
    if sae.threshold_F is not None:
        tensors["threshold"] = sae.threshold_F
    else:
        own = {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    config = {
        "architecture": sae.architecture,
        "d_in": sae.n_in,
        "d_sae": sae.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **own,
        "metadata": {
            "sae_lens_version": FORMAT_VERSION,
            "model_name": sae.model_name,
            "hook_name": f"blocks.{sae.layer}.{PLAIN}",
        },
    }
    for name in (CONFIG, SCALE):
        (folder / name).unlink(missing_ok=True)  # of what was here before
    write(folder / WEIGHTS, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    if sae.max_F is not None:
        bound = {"weights_sha256": digest_file(folder / WEIGHTS)}
        write(folder / SCALE, save({"max": sae.max_F.contiguous()}, metadata=bound))
    write_json(folder / CONFIG, config)  # last: a folder that holds it holds all


def load_sae(folder: Path) -> Sae:
    """Read an SAE, to fp32 on the CPU.

    A scale of activations whose factor the folder states, and rescaling by the decoder's norms, are folded into weights
    and thresholds. Raises UserError for another layout, architecture or normalisation, and for damaged files.
    """
    config = _config(folder)
    tensors = _tensors(folder / WEIGHTS)
    _refuse_other_shape(folder, config, tensors["W_enc"])
    architecture = config["architecture"]
    metadata = config["metadata"]
    threshold_F = tensors.get("threshold")
    if architecture == "standard":
        threshold_F = torch.zeros_like(tensors["b_enc"])
    sae = Sae(
        architecture="topk" if architecture == "topk" else "jumprelu",
        W_enc_DF=tensors["W_enc"],
        b_enc_F=tensors["b_enc"],
        W_dec_FD=tensors["W_dec"],
        b_dec_D=tensors["b_dec"],
        threshold_F=None if architecture == "topk" else threshold_F,
        k=config.get("k") if architecture == "topk" else None,
        apply_b_dec_to_input=bool(config.get("apply_b_dec_to_input", True)),
        layer=layer_of(str(metadata.get("hook_name"))),
        model_name=str(metadata.get("model_name") or ""),
    )
    if config.get("rescale_acts_by_decoder_norm"):
        sae = _with_unit_rows(sae)
    if config.get("normalize_activations") == "expected_average_only_in":
        sae = folded(sae, _factor(folder))
    return replace(sae, max_F=_scale(folder))


def _config(folder: Path) -> dict[str, Any]:
    """cfg.json, of which all is understood that changes what the SAE does."""
    where = from_here(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        if (folder / "sae.safetensors").is_file():
            raise UserError(
                f"{where} holds an SAE in the layout of sparsify: open it with sae-lens and save it again, "
                f"which gives {WEIGHTS} and {CONFIG}"
            )
        raise UserError(f"{where} holds no SAE: give a folder with {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{where}/{CONFIG} is damaged: get the SAE again") from error
    if not isinstance(config, dict) or not isinstance(config.get("metadata"), dict):
        raise UserError(
            f"{where}/{CONFIG} has no metadata, as before SAELens 6: open it with sae-lens and save it again"
        )
    known = {
        "architecture": ("jumprelu", "topk", "standard"),
        "normalize_activations": ("none", "expected_average_only_in", None),
        "reshape_activations": ("none", None),
    }
    for name, allowed in known.items():
        if config.get(name) not in allowed:
            choices = ", ".join(choice for choice in allowed if choice)
            raise UserError(f"{where}: {name} {config.get(name)!r} is not supported; allowed: {choices}")
    if (config["metadata"].get("model_from_pretrained_kwargs") or {}).get("center_writing_weights"):
        raise UserError(
            f"{where} was made for a model whose stream was centred (center_writing_weights), "
            "which that of transformers is not: give another SAE"
        )
    return config


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors = {name: tensor.float() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{from_here(path)} is damaged: get the SAE again") from error
    if missing := sorted({"W_enc", "b_enc", "W_dec", "b_dec"} - set(tensors)):
        raise UserError(f"{from_here(path)} lacks {', '.join(missing)}: get the SAE again")
    if odd := sorted(name for name, tensor in tensors.items() if not tensor.isfinite().all()):
        raise UserError(f"{from_here(path)}: {', '.join(odd)} holds NaN or infinity: get the SAE again")
    return tensors


def _refuse_other_shape(folder: Path, config: dict[str, Any], W_enc_DF: Tensor) -> None:
    """Raise UserError where the configuration tells of other weights than those beside it."""
    for name, size in zip(("d_in", "d_sae"), W_enc_DF.shape, strict=True):
        if config.get(name, size) != size:
            raise UserError(
                f"{from_here(folder)}: {CONFIG} says {name} {config[name]}, the weights beside it have {size}: "
                "get the SAE again"
            )


def _with_unit_rows(sae: Sae) -> Sae:
    """What ranks and multiplies activations by the norm of their decoder's row, with that norm in the encoder."""
    norm_F = sae.W_dec_FD.norm(dim=1)
    if not (norm_F > 0).all():
        raise UserError("the SAE has a decoder row of zeros and rescales by its norm: its file is damaged")
    return replace(
        sae, W_enc_DF=sae.W_enc_DF * norm_F, b_enc_F=sae.b_enc_F * norm_F, W_dec_FD=sae.W_dec_FD / norm_F[:, None]
    )


def _factor(folder: Path) -> float:
    """What activations are multiplied by. Raises UserError where no file says it."""
    path = folder / FACTOR
    stated = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    factor = stated.get("scaling_factor")
    if not isinstance(factor, int | float) or factor <= 0 or stated.get("has_whitening"):
        raise UserError(
            f"{from_here(folder)}: normalize_activations 'expected_average_only_in' without a factor in {FACTOR}: "
            "fold it with sae-lens (fold_activation_norm_scaling_factor) and save again"
        )
    return float(factor)


def _scale(folder: Path) -> Tensor | None:
    """max_F, where someone measured it. Raises UserError where it was measured for other weights."""
    path = folder / SCALE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            bound, max_F = (file.metadata() or {}).get("weights_sha256"), file.get_tensor("max").float()
    except SafetensorError as error:
        raise UserError(f"{from_here(path)} is damaged: delete it, and the scale is measured anew") from error
    if bound != digest_file(folder / WEIGHTS):
        raise UserError(f"{from_here(path)} was measured for other weights: delete it, and it is measured anew")
    return max_F
