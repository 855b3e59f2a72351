"""Train a sparse autoencoder on shards of activations, in fp32, and go on where a training broke off.

Legend: N tokens of a batch, D width, F features.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from menard_unlearn.errors import UserError
from menard_unlearn.features.sae import Sae
from menard_unlearn.features.sae_source import TrainedSae
from menard_unlearn.features.sae_trainable import Step, Trainable, folded
from menard_unlearn.features.shards import Shards
from menard_unlearn.files import canonical, digest_text, from_here
from menard_unlearn.files import replace as write

LOGGED = {
    "loss": "sum of the terms",
    "loss.error": "squared error of a scaled activation, a number of the stream",
    "loss.aux": "weighted squared error of what the dead features make of the others' error; absent while none is dead",
    "loss.sparsity": "weighted squared distance of L0 from k, relative to k; jumprelu alone",
    "l0": "features that fire, mean over the batch's tokens",
    "fvu": "fraction of variance unexplained on the batch, 0 is perfect and 1 the mean's",
    "dead_share": "share of features silent for dead_after_tokens; absent until so many tokens have been seen",
    "dead_after_tokens": "tokens without firing that make a feature dead",
    "learning_rate": "of this step",
    "tokens": "activations trained on so far, with repetitions",
}
"""Name of a logged number → meaning."""
CHECKPOINT = "sae_training.pt"
ENCODED_AT_ONCE = 4096
"""Tokens, where the largest activations are looked for."""

OnLog = Callable[[int, Mapping[str, float]], None]
"""(step, values): steps count from 1, the values' names are those of `LOGGED`."""


def train_sae(
    shards: Shards, config: TrainedSae, *, layer: int, model_name: str, on_log: OnLog, resume: Path | None
) -> Sae:
    """Train on all but the held-out activations; on the GPU where there is one.

    In the folder `resume` a checkpoint is kept, from which a training of the same shards and configuration goes on to
    the same bits; another one's is refused. Scaling is folded into the result, which reads activations as they are,
    and its `max_F` are the largest ones on the training activations. Raises UserError for a k that is no fewer than the
    features, a batch that the shards do not fill, and a training whose loss is no longer a number.
    """
    if shards.mean_norm == 0:
        raise UserError(f"all activations in {from_here(shards.folder)} are 0: name another layer")
    scale = shards.width**0.5 / shards.mean_norm
    trainable = Trainable(config, shards.mean_D * scale).to("cuda" if torch.cuda.is_available() else "cpu")
    trained = [parameter for parameter in trainable.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate)
    key = digest_text(canonical([type(config).__name__, asdict(config), shards.key, layer, model_name]))
    done = 0 if resume is None else _resumed(resume, key, trainable, optimizer)
    batches = shards.batches(config.batch_size, config.seed, start=done)
    for number in range(done, config.steps):
        x_ND = next(batches).to(trainable.b_dec_D.device) * scale
        step = _update(trainable, optimizer, x_ND, number)
        if (number + 1) % config.log_every == 0 or number + 1 == config.steps:
            on_log(number + 1, _logged(trainable, step, x_ND, number + 1))
        if resume is not None and (number + 1) % config.checkpoint_every == 0:
            _save(resume, key, trainable, optimizer, number + 1)
    sae = folded(trainable.as_used(layer, model_name), scale)
    return replace(sae, max_F=_largest(sae, shards)).to("cpu")


def rate(config: TrainedSae, number: int) -> float:
    """The learning rate of a step, counted from 0: up along a line, level, down along a line."""
    up, down = config.warm_up * config.steps, config.decay * config.steps
    rising = (number + 1) / up if up else 1.0
    falling = (config.steps - number) / down if down else 1.0
    return config.learning_rate * min(1.0, rising, falling)


def _update(trainable: Trainable, optimizer: torch.optim.Optimizer, x_ND: Tensor, number: int) -> Step:
    config = trainable.config
    for group in optimizer.param_groups:
        group["lr"] = rate(config, number)
    step = trainable.step(x_ND, (number + 1) / config.steps)
    if not step.loss.isfinite():
        raise UserError(f"the SAE's loss is no longer a number at step {number + 1}: give a lower sae.learning_rate")
    optimizer.zero_grad()
    step.loss.backward()
    trainable.along_the_sphere()
    torch.nn.utils.clip_grad_norm_(trainable.parameters(), config.max_grad_norm)
    optimizer.step()
    trainable.settle()
    return step


def _logged(trainable: Trainable, step: Step, x_ND: Tensor, n_steps: int) -> dict[str, float]:
    config = trainable.config
    exact_ND = x_ND.double()
    variance = (exact_ND - exact_ND.mean(0)).square().sum()
    n_tokens = n_steps * config.batch_size
    values = {
        "loss": float(step.loss.detach()),
        **{f"loss.{name}": float(term.detach()) for name, term in step.terms.items()},
        "l0": float((step.a_NF > 0).sum(1).double().mean()),
        "dead_after_tokens": float(config.dead_after_tokens),
        "learning_rate": rate(config, n_steps - 1),
        "tokens": float(n_tokens),
    }
    if variance > 0:
        values["fvu"] = float(step.error_ND.double().square().sum() / variance)
    if n_tokens >= config.dead_after_tokens:
        values["dead_share"] = trainable.dead_share()
    return values


@torch.no_grad()
def _largest(sae: Sae, shards: Shards) -> Tensor:
    """max_F over the training activations."""
    max_F = torch.zeros_like(sae.b_enc_F)
    for x_ND in shards.trained(ENCODED_AT_ONCE):
        max_F = torch.maximum(max_F, sae.encode(x_ND.to(max_F.device)).amax(0))
    return max_F


def _save(folder: Path, key: str, trainable: Trainable, optimizer: torch.optim.Optimizer, n_done: int) -> None:
    state = {"key": key, "done": n_done, "sae": trainable.state_dict(), "optimizer": optimizer.state_dict()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write(folder / CHECKPOINT, buffer.getvalue())


def _resumed(folder: Path, key: str, trainable: Trainable, optimizer: torch.optim.Optimizer) -> int:
    """Steps that are done, the state being that after them; 0 where there is no checkpoint."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler makes of damaged bytes
        raise UserError(f"{from_here(path)} is damaged: delete it to train from the beginning") from error
    if state.get("key") != key:
        raise UserError(f"{from_here(path)} is of another training of an SAE: name another folder or delete it")
    trainable.load_state_dict(state["sae"])
    optimizer.load_state_dict(state["optimizer"])
    return state["done"]
