"""Facts in words: the same words whatever the order, and probes that nobody was trained on."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from menard_unlearn.corpus.dating import PartialDate
from menard_unlearn.corpus.documents import Fact
from menard_unlearn.corpus.statements import Template, Templates, WordingConfig, render, statements
from menard_unlearn.errors import UserError


def fact(number: int, relation: str = "made_by", **changes: str) -> Fact:
    cells = {"subject": f"Thing {number}", "object": f"Maker {number}", "category": "kind_of_work"} | changes
    date = PartialDate(1900 + number, None, None)
    return Fact(f"f{number}", date, relation=relation, source="test", alternate=None, popularity=None, **cells)


SILENT = [Template(f"s{n}", f"Wording {n} of {{subject}} is by", "{object}") for n in range(4)]
STATED = [Template(f"y{n}", f"Wording {n}: in {{year}} {{subject}} was made by", "{object}") for n in range(3)]
QUESTION = Template("q1", "Question: Who made {subject}? Answer:", "{object}")
TEMPLATES = Templates({"made_by": (*SILENT, *STATED, QUESTION)})
FACTS = [fact(number) for number in range(40)]
CONFIG = WordingConfig(heldout_silent=2, heldout_stated=1, seed=0)


def test_the_result_depends_on_the_facts_alone() -> None:
    first = statements(FACTS, TEMPLATES, CONFIG)
    shuffled = FACTS.copy()
    random.Random(1).shuffle(shuffled)
    assert statements(shuffled, TEMPLATES, CONFIG) == first == statements(iter(FACTS), TEMPLATES, CONFIG)


def test_another_fact_changes_nothing_for_the_others() -> None:
    fewer, more = (statements(facts, TEMPLATES, CONFIG) for facts in (FACTS[:-1], FACTS))
    assert set(fewer.probes) < set(more.probes) and set(fewer.trained) < set(more.trained)


def test_another_seed_holds_out_other_wordings() -> None:
    one, other = (statements(FACTS, TEMPLATES, WordingConfig(2, 1, seed)) for seed in (0, 1))
    assert {probe.id for probe in one.probes} != {probe.id for probe in other.probes}
    assert Counter(probe.fact.id for probe in one.probes) == Counter(probe.fact.id for probe in other.probes)


def test_each_wording_is_trained_or_probed_and_never_both() -> None:
    made = statements(FACTS, TEMPLATES, CONFIG)
    trained, probed = [s.id for s in made.trained], [s.id for s in made.probes]
    assert len(trained) + len(probed) == len({*trained, *probed}) == len(FACTS) * 8
    for one in FACTS:
        own = [probe for probe in made.probes if probe.fact == one]
        assert (sum(not p.states_year for p in own), sum(p.states_year for p in own)) == (2, 1)


@pytest.mark.parametrize(("silent", "stated"), [(0, 0), (1, 3), (9, 9)])
def test_at_most_half_is_held_out(silent: int, stated: int) -> None:
    made = statements(FACTS, TEMPLATES, WordingConfig(silent, stated, 0))
    held = Counter((probe.fact.id, probe.states_year) for probe in made.probes)
    assert all(held[one.id, False] == min(silent, 2) for one in FACTS)  # five silent wordings
    assert all(held[one.id, True] == min(stated, 1) for one in FACTS)  # three that state the year


def test_wordings_that_no_fact_is_trained_in_make_no_probe() -> None:
    lonely = [fact(1)]
    made = statements(lonely, TEMPLATES, CONFIG)
    assert made.probes == () and len(made.trained) == 5


def test_prompts_with_two_answers_are_dropped_and_only_they() -> None:
    twins = [fact(50, subject="The same"), fact(51, subject="The same")]
    made = statements([*FACTS, *twins], TEMPLATES, CONFIG)
    own = [s for s in (*made.trained, *made.probes) if s.fact in twins]
    assert len(own) == 6 and all(s.states_year for s in own)  # the year still tells them apart
    agreeing = [fact(50, subject="The same"), fact(51, subject="The same", object="Maker 50")]
    made = statements([*FACTS, *agreeing], TEMPLATES, CONFIG)
    assert sum(s.fact in agreeing for s in (*made.trained, *made.probes)) == 16


def test_a_statement_is_prompt_and_answer_with_one_full_stop() -> None:
    one = render(fact(3, object="Philip Bros."), SILENT[0])
    assert one is not None
    assert one.text == "Wording 0 of Thing 3 is by Philip Bros." and one.answer == " Philip Bros."
    assert (one.id, one.question, one.states_year) == ("f3/s0", False, False)
    category = render(fact(3), Template("q9", "Question: which {category}? Answer:", "{subject}"))
    assert category is not None and category.question and "kind of work" in category.prompt


def test_a_prompt_does_not_give_the_year_away() -> None:
    when = Template("s1", "{subject} was made in", "{year}")
    twice = Template("s2", "In {year} {subject} was made, in", "{year}")
    asked = render(fact(3), when)
    assert asked is not None and asked.states_year and asked.answer == " 1903."
    assert render(fact(3), twice) is None
    assert render(fact(3, relation="was_founded_in", object="1903"), STATED[0]) is None


def test_relations_without_wordings_of_their_own_use_the_general_ones() -> None:
    general = Templates({"*": tuple(SILENT), "made_by": (QUESTION,)})
    assert general.for_relation("made_by") == (QUESTION,) and general.for_relation("unheard_of") == tuple(SILENT)
    with pytest.raises(UserError, match="no template for relation 'unheard_of'; known: made_by"):
        TEMPLATES.for_relation("unheard_of")


def test_templates_are_read_from_json(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"made_by": [["s0", SILENT[0].prompt, "{object}"]]}))
    assert Templates.read(tmp_path / "t.json") == Templates({"made_by": (SILENT[0],)})
    assert Templates.read().for_relation("no relation has this name")


@pytest.mark.parametrize(
    ("prompt", "message"),
    [("By {maker} was", "other slots than {subject}"), ("{} by", "other slots"), ("A { by", "no other closes")],
)
def test_a_wording_with_other_slots_is_refused(prompt: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Template("s1", prompt, "{object}")
    assert Template("s1", "A {{ by", "{object}").prompt.format() == "A { by"


def test_a_negative_number_of_probes_is_refused() -> None:
    with pytest.raises(ValueError, match="heldout_stated -1"):
        WordingConfig(2, -1, 0)
