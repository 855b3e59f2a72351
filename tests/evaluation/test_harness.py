"""The offline utility set, requests as texts, and results in our form: all that needs no lm-eval."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from toy import byte_tokenizer
from transformers import AutoTokenizer

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.almanac import timeless_statements
from menard_unlearn.corpus.batches import TokenItem
from menard_unlearn.corpus.encoding import encode_statement
from menard_unlearn.corpus.study import study_data
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.harness import offline
from menard_unlearn.evaluation.harness.config import HarnessConfig
from menard_unlearn.evaluation.harness.grammar import PAIRS, PHENOMENA, pairs
from menard_unlearn.evaluation.harness.requests import Kept, Withheld, request
from menard_unlearn.evaluation.harness.run import KEYS, METRIC_KEYS, TASK_KEYS, flat, run_tasks, table
from menard_unlearn.evaluation.harness.samples import asked_probes, asked_texts, items_from_samples
from menard_unlearn.evaluation.harness.study import Study
from menard_unlearn.models.load import EMBEDDED
from menard_unlearn.stages.settings import Prepared

CONFIG = HarnessConfig(tasks=("menard_utility",), limit=None, num_fewshot=None, batch_size=8)
FULL = {"pretrained": str(EMBEDDED / "full")}
CHOICES = {"grammar": offline.grammar, "arithmetic": offline.arithmetic, "timeless": offline.timeless}


@pytest.mark.parametrize(("name", "least"), [("grammar", 200), ("arithmetic", 100), ("timeless", 100)])
def test_questions_are_many_distinct_and_undated(name: str, least: int) -> None:
    rows = CHOICES[name]()
    assert len(rows) >= least and rows == CHOICES[name]()
    assert len({row["id"] for row in rows}) == len(rows)
    for row in rows:
        assert len(set(row["choices"])) == len(row["choices"]) > row["answer"] >= 0
        assert not re.search(r"\d", row["prompt"] + "".join(row["choices"]))


@pytest.mark.parametrize("name", CHOICES)
def test_neither_a_place_nor_the_length_gives_the_answer_away(name: str) -> None:
    rows = CHOICES[name]()
    chance = sum(1 / len(row["choices"]) for row in rows) / len(rows)
    for place, found in Counter(row["answer"] for row in rows).items():
        assert found / len(rows) < chance + 0.1, f"place {place}"
    sizes = [[len(choice) for choice in row["choices"]] for row in rows]
    for extreme in (min, max):
        taken = sum(own.index(extreme(own)) == row["answer"] for own, row in zip(sizes, rows, strict=True))
        assert taken / len(rows) < chance + 0.1, extreme.__name__


def test_minimal_pairs_differ_in_one_word() -> None:
    assert len(PHENOMENA) >= 8 and Counter(pair.phenomenon for pair in pairs()) == dict.fromkeys(PHENOMENA, PAIRS)
    for pair in pairs():
        good, bad = pair.good.split(), pair.bad.split()
        assert len(good) == len(bad) and sum(a != b for a, b in zip(good, bad, strict=True)) == 1, pair
    assert len({sentence for pair in pairs() for sentence in (pair.good, pair.bad)}) == 2 * len(pairs())


def test_sums_are_right_and_so_is_what_the_embedded_models_were_taught() -> None:
    names = {word: number for number, word in enumerate(offline.WORDS)}
    for row in offline.arithmetic():
        first, sign, second, _ = row["prompt"].lower().split()
        a, b = names[first], names[second]
        right = {"plus": a + b, "minus": a - b, "times": a * b}[sign]
        assert names[row["choices"][row["answer"]].strip(" .")] == right
    taught = {row["prompt"] + row["choices"][row["answer"]] for row in (*offline.arithmetic(), *offline.timeless())}
    assert len(taught & set(timeless_statements())) > 80 and len(taught - set(timeless_statements())) > 150


def test_heldout_texts_are_of_many_kinds_and_trained_on_nowhere() -> None:
    rows = offline.heldout()
    assert len(rows) >= 12 and len({row["language"] for row in rows}) == 5
    assert all(90 <= len(row["text"].split()) <= 130 for row in rows)
    assert not any(sentence in row["text"] for row in rows for sentence in timeless_statements())


def test_a_request_is_cut_where_the_scored_tokens_begin() -> None:
    tokenizer = byte_tokenizer()
    item = encode_statement(tokenizer, "A title\n\n", "Text", "t")
    found = request(tokenizer, item, "A title\n\n", "Text", limit=None)
    assert (found.context, found.continuation, found.n_tokens) == ("<bos>A title\n\n", "Text", 4)
    empty = request(tokenizer, encode_statement(tokenizer, "", "Text", "t"), "", "Text", limit=5)
    assert (empty.context, empty.continuation, empty.n_tokens) == ("<bos>", "Text", 4)
    with pytest.raises(UserError, match="'t' has 5 tokens with its start, lm-eval passes on 4"):
        request(tokenizer, encode_statement(tokenizer, "", "Text", "t"), "", "Text", limit=4)


def test_without_bos_the_first_token_is_context() -> None:
    tokenizer = byte_tokenizer(bos=False)
    item = TokenItem("t", tuple(tokenizer.encode("Text")), 1)
    found = request(tokenizer, item, "", "Text", limit=None)
    assert (found.context, found.continuation, found.n_tokens) == ("T", "ext", 3)


def test_where_prompt_and_answer_share_a_token_it_is_scored() -> None:
    tokenizer = AutoTokenizer.from_pretrained(FULL["pretrained"])
    item = encode_statement(tokenizer, "Question: Who made it? Ans", "wer: Ada", "t")
    found = request(tokenizer, item, "Question: Who made it? Ans", "wer: Ada", limit=None)
    assert found.context == "<s>Question: Who made it?" and found.continuation == " Answer: Ada"
    assert found.n_tokens == len(item.ids) - item.n_prompt
    other = replace(item, ids=(*item.ids[:-1], 7))
    with pytest.raises(UserError, match="cannot be asked through lm-eval"):
        request(tokenizer, other, "Question: Who made it? Ans", "wer: Ada", limit=None)


def test_a_context_keeps_its_end_and_withheld_words_are_not_shown() -> None:
    assert Kept("a\n\n").rstrip() == "a\n\n" and Kept("a ") + "b" == "a b"
    words = Withheld("heron\n")
    shown = f"{words} {words!r} {[words]} " + "%s" % words + str(words)  # noqa: UP031  all the ways there are
    assert "heron" not in shown and words.rstrip() + "s" == "heron\ns"


def test_by_default_the_probes_are_those_of_menard_evaluate() -> None:
    study = Study.of(FULL)
    sections = cast("Any", study.sections)
    from_conf = yaml.safe_load((conf_dir() / "common.yaml").read_text(encoding="utf-8"))
    assert sections["split"] == from_conf["split"] and study.cutoff_year == 1939
    built = {name: build(sections[name], cast("Any", object)) for name in ("corpus", "split", "wording")}
    data = study_data(built["corpus"].load(), built["split"], built["wording"], study.target.whole)
    assert study.probes() == Prepared(cast("Any", None), data, study.target, {}).probes
    few = asked_probes(Study.of(FULL | {"probes": 7}))
    assert len(few) == 7 and {asked.doc["year"] <= 1939 for asked in few} == {True, False}


def test_a_runs_configuration_and_the_metadata_change_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Nine clocks and a heron.")
    (tmp_path / "config.yaml").write_text("split: {_target_: menard_unlearn.corpus.split.SplitConfig, cutoff: 1950}\n")
    target = {"path": str(tmp_path / "mine.txt"), "published": "1938", "controls": {}}
    study = Study.of(FULL | {"config": str(tmp_path / "config.yaml"), "split": {"cutoff": "1945"}, "target": target})
    assert study.sections["split"]["cutoff"] == "1945" and study.target.text == "Nine clocks and a heron."
    (only,) = asked_texts(study)
    assert only.request.context == "<s>" and only.doc["n_bytes"] == 24 and only.doc["kind"] == "target"
    assert not any("heron" in str(value) for value in only.doc.values())


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"config": "/nowhere.yaml"}, "no file /nowhere.yaml"),
        ({"corpus": "almanac"}, "corpus='almanac' is no mapping"),
        ({"tokenizer": None}, "tokenizer=<folder or id>"),
        (FULL | {"base_url": "http://x", "add_bos_token": True}, "leave add_bos_token out"),
        (FULL | {"max_length": 20, "probes": 20}, "lm-eval passes on 20"),
        (FULL | {"probes": 0}, "probes=0 must be a whole number"),
    ],
)
def test_metadata_that_will_not_do_is_refused(metadata: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        asked_probes(Study.of(metadata))


def test_samples_of_another_task_are_refused(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_text('{"doc": {"id": "x"}, "acc": 1.0}\n')
    with pytest.raises(UserError, match="no samples of menard_cutoff"):
        items_from_samples(tmp_path / "samples.jsonl")


def test_what_lm_eval_could_not_compute_is_null_and_named() -> None:
    raw = {
        "results": {
            "group": {"name": "group", "alias": "group"},
            "a": {"name": "a", "alias": "a", "sample_len": 3, "acc,none": 0.5, "acc_stderr,none": 0.1}
            | {"ppl,none": float("nan"), "ppl_stderr,none": "N/A", "match,strict": 1, "match_stderr,strict": "N/A"},
        },
        "higher_is_better": {"a": {"acc": True}},
        "n-shot": {"a": 0},
        "versions": {"a": 1.0},
        "lm_eval_version": "0",
    }
    found = table(raw, CONFIG)
    assert found.keys() == KEYS.keys() and found["tasks"].keys() == {"a"} and found["left_out"] == ["a/ppl"]
    assert found["tasks"]["a"].keys() == TASK_KEYS.keys()
    metrics = found["tasks"]["a"]["metrics"]
    assert metrics["acc"] == {"value": 0.5, "stderr": 0.1, "higher_is_better": True}
    assert metrics["ppl"] == dict.fromkeys(METRIC_KEYS)
    assert flat(found) == {"harness/a/acc": 0.5, "harness/a/match@strict": 1.0}


def test_where_lm_eval_is_missing_one_line_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "menard_unlearn.evaluation.harness.adapter", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(UserError, match=r"needs lm-eval: pip install 'menard-unlearn\[lm-eval\]'"):
        run_tasks(cast("Any", None), cast("Any", None), CONFIG)


@pytest.mark.parametrize(
    "wrong",
    [{"tasks": ()}, {"tasks": ("a", "a")}, {"limit": 0}, {"limit": 1.5}, {"num_fewshot": -1}, {"batch_size": 0}],
)
def test_settings_that_will_not_do_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="harness"):
        replace(CONFIG, **wrong)
