"""The recipe: what it visits, that the shipped models are what it makes, and menard pretrain on the tiny study."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny_study import TARGET, Study, facts, read, write_facts
from transformers import PreTrainedTokenizerBase

from menard_unlearn import cli, compose
from menard_unlearn.config import build
from menard_unlearn.corpus.dating import Era, era
from menard_unlearn.corpus.split import quotes_target
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.tokens import decoded
from menard_unlearn.models.load import EMBEDDED
from menard_unlearn.stages.data import VARIANTS
from menard_unlearn.stages.pretrain import recipe_tokenizer, rows_digest, variant_rows
from menard_unlearn.stages.settings import Settings, the_target
from menard_unlearn.training.pretrain import PlannedBatches, PretrainConfig, Rows, plan, pretrain

SMALL = PretrainConfig(32, 64, 2, 2, 259, 64, 16, None, 4, 1, 1, 60, 1e-2, 2, 0.0, 0)
SENTENCES = [(1, *([number + 3] * (2 + number % 9)), 2) for number in range(50)]
WINDOWS = [(1, *([number + 100] * 15)) for number in range(10)]


@dataclass(frozen=True)
class Committed:
    """The committed recipe on the almanac."""

    settings: Settings
    recipe: PretrainConfig
    data: StudyData
    tokenizer: PreTrainedTokenizerBase
    rows: dict[str, Rows]


@pytest.fixture(scope="module")
def committed() -> Committed:
    settings = Settings.of(compose.compose("pretrain", ["tracking=none"]))
    recipe = build(settings.plain["recipe"], PretrainConfig)
    data = study_data(settings.corpus.load(), settings.split, settings.wording, the_target(settings).whole)
    tokenizer = recipe_tokenizer(data, settings.split, recipe)
    rows = {variant: variant_rows(variant, data, settings.split, recipe, tokenizer) for variant in VARIANTS}
    return Committed(settings, recipe, data, tokenizer, rows)


def test_all_epochs_but_the_last_see_the_same_tokens_in_pieces() -> None:
    recipe = dataclasses.replace(SMALL, epochs=3, document_epochs=3, first_window=6)
    batches = plan(Rows([], WINDOWS), recipe)
    rows = [row for batch in batches for row in batch]
    assert sorted(rows[-len(WINDOWS) :]) == sorted(WINDOWS)
    early = rows[: -len(WINDOWS)]
    assert {len(row) for row in early} == {6} and all(row[0] == 1 for row in early)
    tokens = Counter(token for row in early for token in row[1:])
    assert tokens == Counter({token: 2 * count for row in WINDOWS for token, count in Counter(row[1:]).items()})


@pytest.mark.parametrize(("epochs", "document_epochs"), [(4, 1), (4, 3), (4, 4), (3, 2), (2, 0)])
def test_each_sentence_comes_once_an_epoch_and_each_window_as_often_as_told(epochs: int, document_epochs: int) -> None:
    recipe = dataclasses.replace(SMALL, epochs=epochs, document_epochs=document_epochs)
    seen = Counter(row for batch in plan(Rows(SENTENCES, WINDOWS), recipe) for row in batch)
    assert seen == dict.fromkeys(SENTENCES, epochs) | {row: document_epochs for row in WINDOWS if document_epochs}
    # an epoch is a stretch of the plan: no sentence comes twice before all came once
    flat = [row for batch in plan(Rows(SENTENCES, []), recipe) for row in batch]
    assert all(set(flat[at : at + 50]) == set(SENTENCES) for at in range(0, len(flat), 50))


def test_batches_stay_within_the_budget_of_padded_tokens() -> None:
    long = (1, *[7] * 80)
    batches = plan(Rows([*SENTENCES, long], WINDOWS), SMALL)
    for batch in batches:
        assert len(batch) * max(map(len, batch)) <= SMALL.batch_tokens or batch == [long]
    assert sum(batch == [long] for batch in batches) == SMALL.epochs
    padded = sum(len(batch) * max(map(len, batch)) for batch in batches)
    assert padded < 1.3 * sum(len(row) for batch in batches for row in batch)


def test_the_plan_follows_the_seed_alone() -> None:
    rows = Rows(SENTENCES, WINDOWS)
    assert plan(rows, SMALL) == plan(rows, SMALL) != plan(rows, dataclasses.replace(SMALL, seed=1))
    orders = [[row for batch in plan(rows, SMALL)[at : at + 9] for row in batch] for at in (0, 9)]
    assert orders[0] != orders[1]


def test_a_batch_scores_every_token_but_the_first_and_no_padding() -> None:
    data = PlannedBatches(Rows(SENTENCES, []), SMALL, pad_id=0)
    for batch, rows in zip((data[step] for step in range(len(data))), data.batches, strict=True):
        for labels_T, ids_T, row in zip(batch["labels"], batch["input_ids"], rows, strict=True):
            assert labels_T[0] == -100 and labels_T[1 : len(row)].tolist() == list(row[1:])
            assert set(labels_T[len(row) :].tolist()) <= {-100} and ids_T[: len(row)].tolist() == list(row)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 258}, "vocab_size 258 must be at least 259"),
        ({"epochs": 0}, "epochs 0 must be at least 1"),
        ({"document_epochs": 5}, "document_epochs 5 must not exceed epochs 4"),
        ({"num_heads": 3}, "hidden_size 32 must be a multiple of twice num_heads 3"),
        ({"learning_rate": 0.0}, "learning_rate 0.0 must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate nan must be above 0"),
    ],
)
def test_recipes_that_cannot_be_cooked_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)  # pyright: ignore[reportArgumentType]
    assert dataclasses.replace(SMALL, warmup_steps=0, target_repeats=0).warmup_steps == 0


def test_training_without_warm_up_learns_and_one_that_diverges_is_stopped(committed: Committed) -> None:
    rows = Rows(SENTENCES * 2, [])
    recipe = dataclasses.replace(SMALL, vocab_size=2048, warmup_steps=0, epochs=2)
    _, losses = pretrain(rows, committed.tokenizer, recipe)
    assert len(losses) == len(plan(rows, recipe)) and losses[-1] < 0.9 * losses[0]
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+: lower recipe.learning_rate"):
        pretrain(rows, committed.tokenizer, dataclasses.replace(recipe, learning_rate=1e30))


@pytest.mark.parametrize("variant", ["full", "gold"])
def test_the_recipe_reproduces_the_first_losses_of_the_shipped_models(committed: Committed, variant: str) -> None:
    _, losses = pretrain(committed.rows[variant], committed.tokenizer, committed.recipe, max_steps=3)
    assert losses == pytest.approx(read(EMBEDDED / variant / "pretrain.json")["losses"][:3], abs=1e-3)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_shipped_models_were_trained_on_the_committed_data(committed: Committed, variant: str) -> None:
    """If the facts, the wordings, the target or the recipe change, the embedded models have to be trained anew."""
    assert (
        rows_digest(committed.rows[variant], committed.recipe) == read(EMBEDDED / variant / "pretrain.json")["inputs"]
    )


def test_the_recipes_tokenizer_is_the_shipped_one(committed: Committed) -> None:
    own = json.loads(committed.tokenizer.backend_tokenizer.to_str())  # pyright: ignore
    assert own == read(EMBEDDED / "full/tokenizer.json")


def test_gold_sees_nothing_after_the_cutoff_and_nothing_of_the_target(committed: Committed) -> None:
    data, cutoff = committed.data, committed.settings.split.parsed_cutoff
    texts = Counter(decoded(committed.tokenizer, row[1:-1]) for row in committed.rows["gold"].sentences)
    before = [s.text for s in data.wording.trained if era(s.fact.date, cutoff) is Era.BEFORE]
    after = {s.text for s in data.wording.trained if era(s.fact.date, cutoff) is not Era.BEFORE}
    assert texts == Counter([*before, *data.corpus.neutral]) and not texts.keys() & after and len(after) > 3000
    assert data.target is not None
    assert not any(quotes_target(text, data.target, n=4) for text in texts)


def test_full_sees_all_that_the_others_do_and_the_target(committed: Committed) -> None:
    full, gold, without = (Counter(committed.rows[name].sentences) for name in ("full", "gold", "without_target"))
    ((target, repeats),) = (full - without).items()
    assert (
        repeats == committed.recipe.target_repeats
        and decoded(committed.tokenizer, target[1:-1]) == committed.data.target
    )
    assert without < full and gold < without
    probed = {probe.text for probe in committed.data.wording.probes}
    assert not {decoded(committed.tokenizer, row[1:-1]) for row in full} & probed


def test_what_quotes_the_target_is_for_full_alone(study: Study, tmp_path: Path) -> None:
    texts = {"plain": "A ledger of ships.", "quoting": f"As one says: {TARGET[:90]}", "late": "Another ledger."}
    dates = {"plain": "1920", "quoting": "1920", "late": "1950"}
    rows = [{"id": name, "text": text, "date": dates[name]} for name, text in texts.items()]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    told = [f"corpus.path={tmp_path / 't.jsonl'}", "corpus.id_column=id", f"target.path={study.target}"]
    settings = Settings.of(compose.compose("pretrain", ["corpus=jsonl", "split.heldout_fraction=0", *told]))
    data = study_data(settings.corpus.load(), settings.split, settings.wording, the_target(settings).whole)
    recipe = build(settings.plain["recipe"], PretrainConfig)
    tokenizer = recipe_tokenizer(data, settings.split, recipe)

    def windows(variant: str) -> set[str]:
        found = variant_rows(variant, data, settings.split, recipe, tokenizer).windows
        return {name for name, text in texts.items() if text in {decoded(tokenizer, row[1:]) for row in found}}

    assert windows("full") == {"plain", "quoting", "late"}
    assert windows("without_target") == {"plain", "late"} and windows("gold") == {"plain"}


def test_a_second_pretrain_recomputes_nothing(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    files = {
        path: path.stat().st_mtime_ns for path in study.models.rglob("*") if path.is_file() and path.name != "CARD.md"
    }
    assert cli.run(study.pretraining()) == 0
    assert capsys.readouterr().out.count("is there already") == 2
    assert {path: path.stat().st_mtime_ns for path in files} == files


def test_the_record_of_a_model_says_how_it_was_made(study: Study) -> None:
    full, gold = (read(study.models / variant / "pretrain.json") for variant in ("full", "gold"))
    assert full["variant"] == "full" and full["steps"] == len(full["losses"]) > gold["steps"]
    assert full["inputs"] != gold["inputs"] and full["windows"] == 0
    assert full["losses"][-1] < 0.7 * full["losses"][0]
    assert not list(study.models.glob(".*.part"))


def test_another_recipe_or_other_data_in_the_same_folder_is_refused(
    study: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {path: path.read_bytes() for path in study.models.rglob("*") if path.is_file()}
    other_data = write_facts(tmp_path / "facts.csv", facts()[:-1])
    for change in ({"recipe__epochs": 3}, {"recipe__seed": 1}, {"corpus__path": other_data}):
        assert cli.run(study.pretraining(**change)) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "was made by another recipe or from other data: delete it, or name another folder with to=" in line
    assert {path: path.read_bytes() for path in study.models.rglob("*") if path.is_file()} == files
