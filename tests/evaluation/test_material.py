"""What a study asks of a model, in one pass: nothing depends on how the pass is made, and nothing tells the words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from evaluated import CONTROL, EDITION, TEXT, evaluated, material, settings, texts
from toy import byte_tokenizer, llama

from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.compare import compare, write_ngram
from menard_unlearn.evaluation.material import Plan


def numbers(value: object, at: str = "") -> dict[str, object]:
    """Every leaf of a JSON value, by its path."""
    if isinstance(value, dict):
        return {path: leaf for key, inner in value.items() for path, leaf in numbers(inner, f"{at}/{key}").items()}
    if isinstance(value, list):
        return {path: leaf for n, inner in enumerate(value) for path, leaf in numbers(inner, f"{at}/{n}").items()}
    return {at: value}


def leaves(folder: Path) -> dict[str, dict[str, object]]:
    """File → the leaves of each of its lines."""
    found = {}
    for path in sorted(folder.iterdir()):
        text = path.read_text(encoding="utf-8")
        found[path.name] = numbers(
            [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else json.loads(text)
        )
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of an unpublished target, with all that it is compared with left out."""
    out, what = tmp_path_factory.mktemp("evaluation"), material(texts())
    model = llama()
    evaluated(model, out, what, settings(), {"lm_head.weight": model.lm_head.weight.detach() * 1.1})
    write_ngram(out, what, settings())
    compare(out, {}, what, settings())
    return out


def test_batches_and_chunks_change_nothing(folder: Path, tmp_path: Path) -> None:
    model, what, config = llama(), material(texts()), settings(batch_size=5, chunk=7)
    evaluated(model, tmp_path, what, config, {"lm_head.weight": model.lm_head.weight.detach() * 1.1})
    write_ngram(tmp_path, what, config)
    compare(tmp_path, {}, what, config)
    one, other = leaves(folder), leaves(tmp_path)
    assert one.keys() == other.keys()
    for name, found in one.items():
        assert found.keys() == other[name].keys(), name
        for path, value in found.items():
            # The error bars are differences of two such passes in lower precision: they are what they measure.
            if "spread" in path.rpartition("/")[2] and name == "reproduction.json":
                continue
            expected = pytest.approx(value, rel=1e-9, abs=1e-9) if isinstance(value, float) else value
            assert other[name][path] == expected, f"{name} {path}"


def test_no_file_tells_a_word_of_an_unpublished_text(folder: Path) -> None:
    words = {word.strip(".,;") for text in (TEXT, EDITION, CONTROL) for word in text.split()}
    # residue.json names its own items, one of which is four-colours.
    hidden = {word for word in words if len(word) > 5} - {"colour"}
    assert len(hidden) > 20
    for path in folder.iterdir():
        content = path.read_text(encoding="utf-8")
        assert not [word for word in hidden if word in content], path.name


def test_a_published_text_is_told(tmp_path: Path) -> None:
    evaluated(llama(), tmp_path, material(texts(publish=True)), settings())
    tells = {path.name for path in tmp_path.iterdir() if '"text": "' in path.read_text(encoding="utf-8")}
    assert tells == {"heat.json", "near_verbatim.json", "target_tokens.json"}


def test_each_instrument_asks_for_something_and_no_window_is_asked_for_twice() -> None:
    plan = Plan.of(llama(), byte_tokenizer(), material(texts()), settings())
    assert set(plan.parts) == {
        *("probes", "retain", "questions", "residue", "surprisal", "dating", "heat", "attribution")
    }
    assert plan.windows is not None and len(plan.windows.items) > 10
    windows = {(item.ids, item.n_prompt) for item in plan.windows.items}
    assert not windows & {(item.ids, item.n_prompt) for item in plan.parts["heat"]}
    assert all(items for name, items in plan.parts.items() if name != "heat")


def test_without_a_target_there_is_nothing_about_one(tmp_path: Path) -> None:
    plan = Plan.of(llama(), byte_tokenizer(), material(None), settings())
    assert plan.windows is plan.heat is plan.attribution is None
    evaluated(llama(), tmp_path, material(None), settings())
    compare(tmp_path, {}, material(None), settings())
    names = {path.name for path in tmp_path.iterdir()}
    absent = {"reproduction", "target_tokens", "extraction", "heat", "near_verbatim", "attribution", "counterfactual"}
    assert not names & {f"{name}.json" for name in absent} and "compared.json" in names


def test_what_is_longer_than_the_context_is_refused_by_its_name() -> None:
    plan = Plan.of(llama(), byte_tokenizer(), material(texts()), settings())
    longest = max(len(item.ids) for item in plan.questions.items)
    plan.refuse_longer_than(512)
    with pytest.raises(UserError, match=r"asks for \d+ tokens at once, the model's context is \d+: shorten"):
        plan.refuse_longer_than(longest - 1)
