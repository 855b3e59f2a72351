"""Other answers for a study: from each source, under the ids and after the prompts of the forget items."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from menard_unlearn.corpus.almanac import Almanac
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Document, Fact
from menard_unlearn.corpus.pairs import PairedDataset
from menard_unlearn.corpus.sources import corpus_data
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.statements import Templates, WordingConfig
from menard_unlearn.corpus.study import StudyData, study_data
from menard_unlearn.errors import UserError
from menard_unlearn.methods.base import Alternates
from menard_unlearn.models.load import LoadedModel, ModelSource, load
from menard_unlearn.stages.alternates import alternates
from menard_unlearn.stages.data import token_items

REFUSALS = ("I don't know.", "Nobody can say.")
COLUMN = Alternates("column", (), "", 0.0)
RELATION = Alternates("relation", (), "", 0.0)
REFUSAL = Alternates("refusal", REFUSALS, "", 0.0)
MODEL = Alternates("model", (), "", 0.0)
TARGET = "The clerk counted his ledgers twice, and found each time another number of them. " * 12


@dataclass(frozen=True)
class Case:
    """The almanac, or a part of it, and the model that is to unlearn it."""

    data: StudyData
    loaded: LoadedModel
    forget: list[TokenItem]
    retain: list[TokenItem]

    def made(self, spec: Alternates, folder: Path, forget: list[TokenItem] | None = None) -> dict[str, TokenItem]:
        wanted = self.forget if forget is None else forget
        tokenizer = self.loaded.tokenizer
        return alternates(spec, self.data, wanted, self.retain, tokenizer, lambda: self.loaded, "base", folder)

    def answer(self, item: TokenItem) -> str:
        return str(self.loaded.tokenizer.decode(list(item.ids[item.n_prompt :])))


def a_case(facts: list[Fact], documents: list[Document], loaded: LoadedModel) -> Case:
    split = SplitConfig("1939-12-31", 0, True, 0.0, "error", 0)
    corpus = corpus_data(facts=facts, documents=documents, templates=Templates.read())
    data = study_data(corpus, split, WordingConfig(2, 1, 0), TARGET)
    tokenizer = loaded.tokenizer
    forget, retain = (token_items(tokenizer, data.trained(side), 64) for side in (data.split.forget, data.split.retain))
    return Case(data, loaded, forget, retain)


@pytest.fixture(scope="module")
def case() -> Case:
    """Some of the almanac, in which subjects and objects are asked for; the target is the one document."""
    torch.set_num_threads(1)
    loaded = load(ModelSource("embedded", "embedded:full", None, None, None, "float32", None, None))
    kinds = ("artwork_made_by", "was_awarded_to", "struck_in")
    return a_case([fact for fact in Almanac().load().facts if fact.relation in kinds][::6], [], loaded)


def few(case: Case) -> list[TokenItem]:
    """Statements and the target's windows."""
    return [item for n, item in enumerate(case.forget) if n % 20 == 0 or item.id.startswith("target#")]


@pytest.mark.parametrize("spec", [RELATION, REFUSAL, MODEL], ids=lambda spec: spec.source)
def test_every_forget_item_gets_another_answer_after_its_prompt(case: Case, spec: Alternates, tmp_path: Path) -> None:
    asked = few(case) if spec.source == "model" else case.forget
    found = case.made(spec, tmp_path, asked)
    assert any(item.id.startswith("target#") for item in asked)
    assert {item.id for item in asked} <= found.keys()
    for item in asked:
        other = found[item.id]
        assert (other.id, other.n_prompt, other.ids[: other.n_prompt]) == (
            item.id,
            item.n_prompt,
            item.ids[: item.n_prompt],
        )
        assert case.answer(other).casefold() != case.answer(item).casefold()
    assert replace(case, retain=case.retain[::-1]).made(spec, tmp_path / "again", asked[::-1]) == found
    pairs = PairedDataset(asked, case.retain, 50, 0, found)
    assert all(pairs[i][2].id == pairs[i][0].id for i in range(50))


def test_the_relation_answers_with_what_was_true_before_the_cutoff(case: Case, tmp_path: Path) -> None:
    found = case.made(RELATION, tmp_path)
    earlier = {s.answer for s in case.data.trained(case.data.split.retain) if not isinstance(s, Document)}
    assert {case.answer(found[item.id]) for item in case.forget if "#" not in item.id} <= earlier


def test_the_column_is_used_where_the_data_has_it(case: Case, tmp_path: Path) -> None:
    facts = [replace(fact, alternate=f"Other {n}") for n, fact in enumerate(case.data.corpus.facts)]
    own = a_case(facts, [], case.loaded)
    found = own.made(COLUMN, tmp_path)
    alternate = {fact.id: f" {fact.alternate}." for fact in facts}
    statements = [item for item in own.forget if "#" not in item.id]
    assert all(own.answer(found[item.id]) == alternate[item.id.rsplit("/", 1)[0]] for item in statements)
    with pytest.raises(UserError, match=r"facts to be forgotten have no alternate \(.*\): fill the column"):
        case.made(COLUMN, tmp_path)


def test_windows_take_the_text_of_retained_documents(case: Case, tmp_path: Path) -> None:
    facts = list(case.data.corpus.facts)
    letter = Document("letter", "My dear friend, the weather holds. " * 40, PartialDate(1900, None, None), "")
    with_document = a_case(facts, [letter], case.loaded)
    found = with_document.made(RELATION, tmp_path)
    for item in with_document.forget:
        if item.id.startswith("target#"):
            assert "weather holds" in with_document.answer(found[item.id])
            assert len(found[item.id].ids) == len(item.ids)


def test_what_the_model_wrote_is_as_long_as_the_answer_and_is_read_again(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = few(case)
    found = case.made(MODEL, tmp_path, asked)
    assert f"wrote {len(asked)} other answers" in capsys.readouterr().out
    assert all(len(found[item.id].ids) == len(item.ids) for item in asked)
    special = set(case.loaded.tokenizer.all_special_ids)
    assert not any(special.intersection(other.ids[other.n_prompt :]) for other in found.values())

    def no_model() -> LoadedModel:
        raise AssertionError("what is there must not be written again")

    tokenizer = case.loaded.tokenizer
    again = alternates(MODEL, case.data, asked[::-1], case.retain, tokenizer, no_model, "base", tmp_path)
    assert again == found and capsys.readouterr().out == ""
    (path,) = tmp_path.glob("*.json")
    answers = json.loads(path.read_text(encoding="utf-8"))["answers"]
    assert answers[asked[0].id] == list(found[asked[0].id].ids[asked[0].n_prompt :])
    written = path.read_bytes()
    path.unlink()
    assert case.made(MODEL, tmp_path, asked) == found and path.read_bytes() == written


def test_other_questions_are_answered_anew(case: Case, tmp_path: Path) -> None:
    asked = few(case)[:3]
    other = [MODEL, replace(MODEL, prefix="In 1900. "), replace(MODEL, temperature=1.0)]
    for n, spec in enumerate(other, start=1):
        case.made(spec, tmp_path, asked)
        assert len(list(tmp_path.glob("*.json"))) == n
    case.made(MODEL, tmp_path, asked[:2])
    tokenizer = case.loaded.tokenizer
    alternates(MODEL, case.data, asked, case.retain, tokenizer, lambda: case.loaded, "another model", tmp_path)
    assert len(list(tmp_path.glob("*.json"))) == len(other) + 2


def test_of_jobs_that_need_the_same_answers_one_writes(case: Case, tmp_path: Path) -> None:
    asked, asked_for, found = few(case)[:3], [], []

    def base() -> LoadedModel:
        asked_for.append(1)
        time.sleep(0.3)  # the other one waits by now
        return case.loaded

    def make() -> None:
        found.append(alternates(MODEL, case.data, asked, case.retain, case.loaded.tokenizer, base, "base", tmp_path))

    threads = [threading.Thread(target=make) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(asked_for) == 1 and found[0] == found[1] == case.made(MODEL, tmp_path / "alone", asked)


def test_answers_that_cannot_be_read_are_refused_in_one_line(case: Case, tmp_path: Path) -> None:
    case.made(MODEL, tmp_path, few(case)[:3])
    (path,) = tmp_path.glob("*.json")
    for damaged in (path.read_text(encoding="utf-8")[:-5], "{}", "[]"):
        path.write_text(damaged, encoding="utf-8")
        with pytest.raises(UserError, match=f"{path} is not what a base model wrote: delete it"):
            case.made(MODEL, tmp_path, few(case)[:3])
