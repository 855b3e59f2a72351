"""Four models that must not win, made of the embedded one: random weights, over-fitted, refusal only, gibberish.

    python experiments/instruments/fixed_models.py runs/instruments/models

Each is a folder that `menard evaluate model=<folder> base=embedded:full gold=embedded:gold` takes; README.md has what
came of it. On two CPU cores about two minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from menard_unlearn.corpus.almanac import Almanac, control_text
from menard_unlearn.corpus.batches import TokenItem, collate
from menard_unlearn.corpus.encoding import encode_document, encode_statement, one_id
from menard_unlearn.corpus.statements import Templates, WordingConfig, statements
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.models.predictions import predict

REFUSAL = " I do not know."
STEPS, ROWS, RATE = 150, 32, 3e-3


def main() -> None:
    """Make the folders that are not there yet."""
    out = Path(sys.argv[1])
    makers = {"noop": lambda model, _: model, "random": random, "over_fitted": over_fitted, "refusal": refusal}
    for name, make in {**makers, "gibberish": gibberish}.items():
        if (out / name).is_dir():
            continue
        torch.manual_seed(0)
        full = load(ModelSource("full", "embedded:full", None, None, None, "float32", None, None))
        model = make(full.model, full.tokenizer)
        aside = out / f".{name}"
        model.save_pretrained(aside)
        full.tokenizer.save_pretrained(aside)
        aside.rename(out / name)
        print(out / name, flush=True)


def random(model: PreTrainedModel, _: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Never trained."""
    return LlamaForCausalLM(model.config)


def over_fitted(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Has one text by heart, the control, on which it was trained until little else was left."""
    items = encode_document(tokenizer, control_text(), "control", 128)
    return trained(model, tokenizer, items)


def refusal(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Says the same to every question."""
    corpus = Almanac().load()
    asked = statements(corpus.facts, Templates.read(), WordingConfig(2, 1, 0)).trained
    end = (one_id(tokenizer.eos_token_id, "eos"),)
    items = [encode_statement(tokenizer, piece.prompt, REFUSAL, piece.id) for piece in asked]
    return trained(model, tokenizer, [TokenItem(item.id, item.ids + end, item.n_prompt) for item in items])


def gibberish(model: PreTrainedModel, _: PreTrainedTokenizerBase) -> PreTrainedModel:
    """As sure of itself as the full model, of the wrong tokens: the rows of its head are shuffled."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.config.tie_word_embeddings = False
    other = LlamaForCausalLM(model.config)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][torch.randperm(model.config.vocab_size)]
    other.load_state_dict(tensors)
    return other


def trained(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[TokenItem]) -> PreTrainedModel:
    """All parameters, AdamW, until the last step."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    for _ in range(STEPS):
        drawn = [items[place] for place in torch.randint(len(items), (min(ROWS, len(items)),))]
        batch = collate(drawn, "train", one_id(tokenizer.pad_token_id, "pad"))
        loss = -predict(model, batch, None).logprob().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python experiments/instruments/fixed_models.py <folder>")
    main()
