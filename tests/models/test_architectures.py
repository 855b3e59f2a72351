"""What every supported architecture must do alike: layers found, states read, tensors chosen, sequences packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_architectures import DOWN_PROJECTION, DOWN_PROJECTIONS, LAYERS, PAD, TINY, VOCABULARY, saved, source, tiny
from torch import Tensor

from menard_unlearn.corpus.batches import TokenBatch, TokenItem, collate
from menard_unlearn.errors import UserError
from menard_unlearn.models.architecture import check_layer, truncated
from menard_unlearn.models.load import load
from menard_unlearn.models.partial import load_stump
from menard_unlearn.models.predictions import halves
from menard_unlearn.models.scores import score
from menard_unlearn.models.stump import decoder_layers, hidden
from menard_unlearn.training.trained import select

EVERY = pytest.mark.parametrize("name", TINY)
ITEMS = [TokenItem("a", (1, 5, 9, 13, 17, 21, 2), 3), TokenItem("b", (1, 8, 40, 6), 1)]


@pytest.fixture(scope="module")
def batch() -> TokenBatch:
    return collate(ITEMS, "x", PAD)


def states(name: str, batch: TokenBatch) -> tuple[Tensor, ...]:
    """The embeddings, then hidden_BTD after each layer, by transformers' own account."""
    with torch.no_grad():
        return tiny(name)(
            input_ids=batch.input_ids_BT,
            attention_mask=batch.attention_mask_BT,
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states


@EVERY
def test_layers_are_found_and_read_to_the_bit(name: str, batch: TokenBatch) -> None:
    model, every = tiny(name), states(name, batch)
    layers = decoder_layers(model)
    assert len(layers) == LAYERS and all(hasattr(layer, "mlp") for layer in layers)
    assert "vision" not in type(layers[0]).__name__.lower()
    # The last state that transformers returns has gone through the final norm.
    for layer in range(LAYERS - 1):
        found_BTD = hidden(model, batch.input_ids_BT, batch.attention_mask_BT, layer)
        assert torch.equal(found_BTD, every[layer + 1])


@EVERY
def test_a_stump_is_the_full_model_to_the_bit_under_the_same_names(
    name: str, batch: TokenBatch, tmp_path: Path
) -> None:
    model, every = tiny(name), states(name, batch)
    loaded = load_stump(source(saved(model, tmp_path)), 1)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for layer in (0, 1):
        found_BTD = hidden(loaded.model, batch.input_ids_BT, batch.attention_mask_BT, layer)
        assert torch.equal(found_BTD, every[layer + 1])
    full, part = dict(model.named_parameters()), dict(loaded.model.named_parameters())
    assert all(torch.equal(parameter, full[other]) for other, parameter in part.items())
    layers = {id(parameter) for layer in decoder_layers(model)[:2] for parameter in layer.parameters()}
    inside = {other for other, parameter in full.items() if id(parameter) in layers}
    (embeddings,) = part.keys() - inside
    assert inside <= part.keys() and "embed" in embeddings
    assert loaded.model.config.get_text_config(decoder=True).num_hidden_layers == 2


@EVERY
def test_the_whole_model_is_loaded_too(name: str, batch: TokenBatch, tmp_path: Path) -> None:
    model = tiny(name)
    loaded = load(source(saved(model, tmp_path))).model
    inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


@EVERY
def test_the_down_projections_are_chosen_and_nothing_else(name: str) -> None:
    """Shared and routed experts and dense layers; never a router."""
    model = tiny(name)
    pattern = r"\.layers\.[12]" + DOWN_PROJECTIONS.get(name, DOWN_PROJECTION)
    chosen = select([other for other, _ in model.named_parameters()], [pattern])
    width = model.config.get_text_config(decoder=True).hidden_size
    layers = decoder_layers(model)
    # What a down projection is: the matrices of the MLP whose output is as wide as the residual stream.
    expected = [
        parameter
        for layer in layers[1:3]
        for part, parameter in layer.mlp.named_parameters()  # pyright: ignore[reportAttributeAccessIssue]
        if parameter.ndim > 1 and parameter.shape[-2] == width and ("down" in part or "to_h." in part)
    ]
    assert [id(model.get_parameter(other)) for other in chosen] == [id(parameter) for parameter in expected]
    experts = [other for other in chosen if ".experts." in other]
    shared = [other for other in chosen if ".shared_experts." in other]
    assert len(experts) == (2 if "moe" in name or name in ("deepseek_v3", "kimi_k25") else 0)
    assert len(shared) == (2 if name in ("deepseek_v3", "kimi_k25") else 0)
    assert all(model.get_parameter(other).shape[0] == 4 for other in experts)


@EVERY
def test_scores_are_those_of_the_plain_forward(name: str) -> None:
    model = tiny(name)  # in fp32: transformers' grouped experts know no float64
    assert halves(model).split
    scores = score(model, ITEMS, batch_size=2, chunk=3, padding=0)
    for item in ITEMS:
        with torch.no_grad():
            log_TV = torch.log_softmax(model(input_ids=torch.tensor([item.ids])).logits[0].double(), dim=-1)
        for t in range(item.n_prompt, len(item.ids)):
            assert scores.of(item).logprob_T[t - item.n_prompt] == pytest.approx(
                float(log_TV[t - 1, item.ids[t]]), rel=1e-4
            )


@EVERY
def test_packed_sequences_do_not_see_each_other(name: str, batch: TokenBatch) -> None:
    """Position ids that begin anew separate sequences, with neither a mask nor a cache; a mask would undo that."""
    model = tiny(name)
    packed_1T = torch.tensor([[token for item in ITEMS for token in item.ids]])
    position_1T = torch.cat([torch.arange(len(item.ids)) for item in ITEMS])[None]
    with torch.no_grad():
        padded_BTV = model(input_ids=batch.input_ids_BT, attention_mask=batch.attention_mask_BT).logits
        packed_TV = model(input_ids=packed_1T, position_ids=position_1T, use_cache=False).logits[0]
        one_TV = model(input_ids=packed_1T, use_cache=False).logits[0]
    expected_TV = torch.cat([padded_BTV[row, : len(item.ids)] for row, item in enumerate(ITEMS)])
    scale = float(expected_TV.abs().max())
    assert float((packed_TV - expected_TV).abs().max()) <= 1e-5 * scale
    assert float((one_TV - expected_TV).abs().max()) > 1e-2 * scale  # as one sequence they would differ


@EVERY
def test_a_configuration_tells_its_layers(name: str) -> None:
    check_layer(TINY[name], LAYERS - 1)
    with pytest.raises(UserError, match="layer 4 asked for, the model has layers 0 to 3: set method.layer to one"):
        check_layer(TINY[name], LAYERS)
    with pytest.raises(UserError, match="layer -1 asked for"):
        check_layer(TINY[name], -1)
    before = TINY[name].to_dict()
    text = truncated(TINY[name], 1).get_text_config(decoder=True)
    assert text.num_hidden_layers == 2 and text.vocab_size == VOCABULARY and TINY[name].to_dict() == before
    assert len(getattr(text, "layer_types", None) or ["", ""]) == 2
