"""The sections of the page in their order, each with how to read it, what it shows, and the figures in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from menard_unlearn.report import prose
from menard_unlearn.report.aside_keys import key_of_contexts, key_of_doses
from menard_unlearn.report.author import author_features, author_figures
from menard_unlearn.report.curves import all_of, curve_figures, curves
from menard_unlearn.report.cutoffs import cutoff_figures
from menard_unlearn.report.dated import dated_figures
from menard_unlearn.report.differences import differences
from menard_unlearn.report.dose import dose_figures, doses
from menard_unlearn.report.drawing import extraction_table
from menard_unlearn.report.effects import effects
from menard_unlearn.report.figures import Figure, panel
from menard_unlearn.report.joint import joint
from menard_unlearn.report.keys import choice_of_groups, key_of_curves, key_of_groups, key_of_surprisal
from menard_unlearn.report.memory import attribution_table
from menard_unlearn.report.needed import contexts
from menard_unlearn.report.needed_figures import kinds, needed_figures
from menard_unlearn.report.pareto import pareto_figures
from menard_unlearn.report.runs import runs_table
from menard_unlearn.report.signs import dated_table
from menard_unlearn.report.study import Study
from menard_unlearn.report.table import table
from menard_unlearn.report.target import by_character, by_token
from menard_unlearn.report.ways import asked
from menard_unlearn.report.years import year_figures


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading of its own."""

    title: str
    reading: str
    """How to read it, as HTML; "" where it says so itself."""
    drawn: str
    """As HTML; "" where nothing of it was measured."""
    figures: Sequence[Figure]
    """Those with a place in it, in the order of their places."""

    @property
    def anchor(self) -> str:
        """Its identity, for links."""
        return "".join(letter if letter.isalnum() else "-" for letter in self.title.lower())

    def html(self) -> str:
        """The whole of it."""
        how = f'<p class="read">{self.reading}</p>' if self.reading else ""
        return f'<section id="{self.anchor}"><h2>{self.title}</h2>{how}{self.drawn}</section>'


def sections(study: Study) -> list[Section]:
    """All of them; without runs of methods, or without asides, theirs are not even named."""
    own = [*_of_methods(study), *_of_the_target(study)] if study.runs else []
    training = [_training(study)] if study.runs else []
    asides = _of_asides(study) if study.asides else []
    settings = [Section("Settings that differ", prose.DIFFERENCES, differences(study), ())] if study.runs else []
    return [*own, *asides, *training, Section("Runs", prose.RUNS, runs_table(study), ()), *settings]


def _of_methods(study: Study) -> list[Section]:
    pareto, cutoffs = pareto_figures(study), cutoff_figures(study)
    years, dated = year_figures(study), dated_figures(study)
    references = dict.fromkeys(run.method for run in study.runs if run.is_reference)
    surprise = _panels(dated, key=key_of_surprisal(references))
    return [
        Section("Methods", prose.METHODS, choice_of_groups(study) + table(study), ()),
        Section("Forgotten against kept", prose.PARETO, _panels(pareto, "pair", key_of_groups(study)), pareto),
        Section("Cutoffs", prose.CUTOFFS, _panels(cutoffs, "pair tall"), cutoffs),
        Section("Recall by year", prose.YEARS, _panels(years, key=key_of_curves(references)), years),
        Section("Other ways of asking", prose.ASKED, asked(study), ()),
        Section("What else dates it", prose.DATED, surprise + dated_table(study), dated),
    ]


def _of_the_target(study: Study) -> list[Section]:
    return [
        Section("Memorized, or written afresh", prose.MEMORY, attribution_table(study), ()),
        Section("What can be drawn from it", prose.DRAWN, extraction_table(study), ()),
        Section("The target by character", "", by_character(study), ()),
        Section("The target, token by token", "", by_token(study), ()),
    ]


def _of_asides(study: Study) -> list[Section]:
    training, dose, needed = author_figures(study), dose_figures(study), needed_figures(study)
    dosed, curved = doses(study), contexts(study)
    return [
        Section("An author’s feature", prose.FEATURES, author_features(study), training),
        Section("Dose-response", prose.DOSES, key_of_doses() + dosed if dosed else "", dose),
        Section("Which tokens the feature helps", prose.EFFECTS, effects(study), ()),
        Section("Clamp, memory and context", prose.JOINT, joint(study), ()),
        Section("Context needed", prose.CONTEXT, key_of_contexts(kinds(study)) + curved if curved else "", needed),
    ]


def _training(study: Study) -> Section:
    found = curve_figures(study)
    return Section("Training", prose.TRAINING, curves(study, found), tuple(all_of(found)))


def _panels(figures: Sequence[Figure], kind: str = "", key: str = "") -> str:
    """The places of the figures below their key; "" of none."""
    return f'{key}<div class="panels {kind}">{"".join(map(panel, figures))}</div>' if figures else ""
