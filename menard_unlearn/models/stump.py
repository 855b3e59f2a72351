"""The residual stream after some layers, without running what comes after them, nor what is known from before.

Legend: B items, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from menard_unlearn.errors import UserError

TOKENS_AT_ONCE = 512
"""On a CPU, where no gradient is wanted: what a layer makes of so few stays in the processor's cache."""


@dataclass(frozen=True, eq=False)
class Prefix:
    """What the first layers make of a batch, where nothing that is trained lies in them."""

    layer: int
    """The first layer that is still to run."""
    hidden_BTD: Tensor
    """The residual stream that enters it."""
    answers: Mapping[str, Any] = field(default_factory=dict)
    """Modules inside that layer that do not run either, and what they answer (models.cut finds them)."""
    entering: Mapping[str, Tensor] = field(default_factory=dict)
    """Modules inside that layer that run, and what they are given instead of their first argument."""

    def of(self, rows: slice) -> Prefix:
        """The prefix of some of the batch's rows."""

        def some(answer: Any) -> Any:
            if isinstance(answer, tuple):
                return tuple(some(part) for part in answer)
            return None if answer is None else answer[rows]

        answers = {name: some(answer) for name, answer in self.answers.items()}
        entering = {name: value_BTD[rows] for name, value_BTD in self.entering.items()}
        return Prefix(self.layer, self.hidden_BTD[rows], answers, entering)


class ReachedError(Exception):
    """Ends a forward pass that is to go no further."""


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


def refuse_absent(layer: int, n_layers: int) -> None:
    """Raise UserError for a layer that a model of so many has not, counted from 0."""
    if not 0 <= layer < n_layers:
        raise UserError(
            f"layer {layer} asked for, the model has layers 0 to {n_layers - 1}: set method.layer to one of them "
            "(layer, for menard features)"
        )


def in_pieces(inputs: Mapping[str, Tensor]) -> list[tuple[slice, dict[str, Tensor]]]:
    """The rows of a batch that are best run together, and what the model is then called with."""
    tokens_BT = inputs["input_ids"]
    everything = [(slice(None), dict(inputs))]
    if torch.is_grad_enabled() or tokens_BT.device.type != "cpu":
        return everything
    at_once = max(1, TOKENS_AT_ONCE // tokens_BT.shape[1])
    if at_once >= len(tokens_BT):
        return everything  # the tensors themselves: who perturbs a pass knows it by its tokens' identity
    pieces = [slice(at, at + at_once) for at in range(0, len(tokens_BT), at_once)]
    return [(rows, {name: value_BT[rows] for name, value_BT in inputs.items()}) for rows in pieces]


def residuals(
    model: nn.Module, inputs: Mapping[str, Tensor], layers: Sequence[int], prefix: Prefix | None
) -> tuple[Tensor, ...]:
    """The residual stream hidden_BTD after each of these decoder layers, counted from 0; to the bit the full model's.

    The model's own forward pass is run and left by an exception as soon as the last of them has answered, so masks and
    positions are made by the model itself; no later layer and no head runs. With a prefix its layers do not run
    either. Differentiable. Raises UserError for a layer that is not there, ValueError for one within the prefix.
    """
    modules = decoder_layers(model)
    for layer in layers:
        refuse_absent(layer, len(modules))
        if prefix is not None and layer < prefix.layer:
            raise ValueError(f"layer {layer} lies in the prefix, whose first layer to run is {prefix.layer}")
    found = [
        _residuals(model, some, layers, None if prefix is None else prefix.of(rows)) for rows, some in in_pieces(inputs)
    ]
    return found[0] if len(found) == 1 else tuple(torch.cat(pieces_BTD) for pieces_BTD in zip(*found, strict=True))


def _residuals(
    model: nn.Module, inputs: Mapping[str, Tensor], layers: Sequence[int], prefix: Prefix | None
) -> tuple[Tensor, ...]:
    """One pass, left at the last of the layers."""
    modules, last = decoder_layers(model), max(layers)
    found: dict[int, Tensor] = {}

    def keep(layer: int, output: Any) -> None:
        found[layer] = output if isinstance(output, Tensor) else output[0]
        if layer == last:
            raise ReachedError

    with ExitStack() as stack:
        stack.enter_context(starting_at(model, prefix))
        for layer in set(layers):
            hook = modules[layer].register_forward_hook(lambda _m, _i, output, layer=layer: keep(layer, output))
            stack.callback(hook.remove)
        try:
            model(**inputs, use_cache=False)
        except ReachedError:
            return tuple(found[layer] for layer in layers)
    raise UserError(f"{type(model).__name__} does not run its decoder layer {last} in a forward pass")


def hidden(model: nn.Module, input_ids_BT: Tensor, attention_mask_BT: Tensor, layer: int) -> Tensor:
    """hidden_BTD after one layer, of a padded batch; as `residuals`."""
    return residuals(model, {"input_ids": input_ids_BT, "attention_mask": attention_mask_BT}, [layer], None)[0]


@contextmanager
def starting_at(model: nn.Module, prefix: Prefix | None) -> Iterator[None]:
    """Within the block the model's forward pass takes the prefix for the work of its first layers, which do not run.

    The layers stay in their places, since models look masks and positions up by a layer's number.
    """
    if prefix is None or prefix.layer == 0:
        yield
        return
    layers = decoder_layers(model)
    first = layers[prefix.layer]
    answering = {first.get_submodule(name): _answer(value) for name, value in prefix.answers.items()}
    replaced = dict.fromkeys(layers[: prefix.layer], _pass_on) | answering
    with ExitStack() as stack:
        for module, forward in replaced.items():
            module.forward = forward
            stack.callback(delattr, module, "forward")  # the class's own shows again
        stack.enter_context(_given(first, prefix.hidden_BTD))
        for name, value in prefix.entering.items():
            stack.enter_context(_given(first.get_submodule(name), value))
        yield


def _pass_on(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    return hidden_states


def _answer(value: Any) -> Callable[..., Any]:
    return lambda *_args, **_kwargs: value


@contextmanager
def _given(module: nn.Module, hidden_BTD: Tensor) -> Iterator[None]:
    """The module runs on these states, whatever it is called with."""

    def instead(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        if args:
            return (hidden_BTD, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden_BTD}

    # Before other hooks, which are to see what the module is really given
    hook = module.register_forward_pre_hook(instead, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        hook.remove()
