"""The residual stream after layer k, without running what comes after it.

Legend: B items, T tokens, D width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from menard_unlearn.errors import UserError


class _ReachedError(Exception):
    """Carries the hidden state out of a forward pass that is to go no further."""

    def __init__(self, hidden_BTD: Tensor) -> None:
        super().__init__()
        self.hidden_BTD = hidden_BTD


def text_config(model: nn.Module) -> Any:
    """The configuration of the decoder, which models of several modalities keep inside another."""
    config: Any = model.config
    return config.get_text_config(decoder=True)


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The list of decoder layers: the outermost ModuleList that is as long as the configuration says.

    Experts and other lists lie inside the layers, so the first one met from outside is the right one, whatever the
    architecture calls it. Raises UserError for a model without one (not a decoder).
    """
    n_layers: int = text_config(model).num_hidden_layers
    found = [
        (name.count("."), name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers
    ]
    if not found:
        raise UserError(
            f"{type(model).__name__} has no list of {n_layers} decoder layers: give a causal language model"
        )
    return min(found, key=lambda entry: entry[:2])[2]


def hidden(model: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor, layer: int) -> Tensor:
    """The residual stream hidden_BTD after decoder layer `layer`, counted from 0; to the bit that of the full model.

    The model's own forward pass is run and left by an exception as soon as the layer has answered, so masks and
    positions are made by the model itself; no later layer and no head runs. Differentiable. Raises UserError for a
    layer that is not there.
    """
    layers = decoder_layers(model)
    if not 0 <= layer < len(layers):
        raise UserError(
            f"layer {layer} asked for, the model has layers 0 to {len(layers) - 1}: set method.layer to one of them"
        )

    def leave(_module: nn.Module, _inputs: Any, output: Tensor | tuple[Tensor, ...]) -> None:
        raise _ReachedError(output if isinstance(output, Tensor) else output[0])

    handle = layers[layer].register_forward_hook(leave)
    try:
        model(input_ids=input_ids_BT, attention_mask=attention_mask_BT, use_cache=False)
    except _ReachedError as reached:
        return reached.hidden_BTD
    finally:
        handle.remove()
    raise UserError(f"{type(model).__name__} does not run its decoder layer {layer} in a forward pass")
