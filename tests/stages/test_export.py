"""An exported run is a plain checkpoint with the run's weights in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from menard_unlearn import cli
from menard_unlearn.models.delta import save_delta
from menard_unlearn.models.load import ModelSource, load
from menard_unlearn.run import RunDir

CHANGED = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture
def base(tmp_path: Path) -> ModelSource:
    torch.manual_seed(0)
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefgh"]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")),
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    )
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return ModelSource("base", str(tmp_path / "base"), None, None, None, "float32", None, None)


def make_run(path: Path, source: ModelSource) -> tuple[RunDir, torch.Tensor]:
    loaded = load(source)
    changed = loaded.model.get_parameter(CHANGED).detach() + 1
    run = RunDir(path)
    node = {"_target_": "menard_unlearn.models.load.ModelSource", **vars(source)}
    run.write_config({"stage": "unlearn", "model": node})
    save_delta(run.delta_path, {CHANGED: changed}, loaded.identity, torch.float32)
    run.write_manifest("unlearn", config_hash="h", inputs={}, seconds=1.0, peak_memory_mb=1.0)
    return run, changed


def test_transformers_loads_it_with_the_changed_weights(tmp_path: Path, base: ModelSource):
    run, changed = make_run(tmp_path / "run", base)
    to = tmp_path / "out" / "model"
    assert cli.run(["export", f"run={run.path}", f"to={to}"]) == 0
    model, original = AutoModelForCausalLM.from_pretrained(to), AutoModelForCausalLM.from_pretrained(base.path)
    assert len(AutoTokenizer.from_pretrained(to)) == 12
    others = original.state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, changed if name == CHANGED else others[name])
    assert [path.name for path in to.parent.iterdir()] == ["model"]


def test_it_refuses_what_would_lose_or_mix(tmp_path: Path, base: ModelSource, capsys: pytest.CaptureFixture[str]):
    run, _ = make_run(tmp_path / "run", base)
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").write_text("years of work")

    def refusal(*arguments: str) -> str:
        assert cli.run(["export", *arguments]) == 2
        return capsys.readouterr().err.splitlines()[-1]

    assert "not an empty folder" in refusal(f"run={run.path}", f"to={full}")
    assert "no value for to: add to=…" in refusal(f"run={run.path}")
    assert "not a run directory" in refusal(f"run={full}", f"to={tmp_path / 'new'}")
    model = load(base).model
    with torch.no_grad():
        model.get_parameter(CHANGED).zero_()
    model.save_pretrained(base.path)
    assert "is not the one that the run changed" in refusal(f"run={run.path}", f"to={tmp_path / 'new'}")
    run.manifest_path("unlearn").unlink()
    assert "is not finished" in refusal(f"run={run.path}", f"to={tmp_path / 'new'}")
    assert not (tmp_path / "new").exists() and (full / "thesis.tex").exists()
