"""The classes behind tasks/*.yaml, which lm-eval makes by name. Nothing else imports this module: it needs lm-eval."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, cast

from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import ConfigurableTask

from menard_unlearn.evaluation.cutoff import measure
from menard_unlearn.evaluation.harness import offline
from menard_unlearn.evaluation.harness.requests import Kept, Withheld
from menard_unlearn.evaluation.harness.samples import Asked, asked_probes, asked_texts, item
from menard_unlearn.evaluation.harness.study import Study

Aggregation = Callable[[Sequence[Any]], Any]


class OwnTask(ConfigurableTask):
    """A task whose documents are made here and nowhere downloaded."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__(config={key: value for key, value in config.items() if key != "class"})

    def rows(self) -> list[dict[str, Any]]:
        """The documents."""
        raise NotImplementedError

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Make the documents; lm-eval calls this where others fetch theirs."""
        self.dataset = {"test": Dataset.from_list(self.rows())}


class HeldoutTask(OwnTask):
    """Bits a byte of short texts. They follow BOS alone, which an empty context gives with every backend; a rolling
    request would score BOS itself too where the tokenizer adds it."""

    def rows(self) -> list[dict[str, Any]]:
        """The texts."""
        return offline.heldout()

    def process_results(self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """Nats and bytes, which are summed over the texts before they are divided."""
        return {"bits_per_byte": (results[0][0], len(doc["text"].encode()))}

    def aggregation(self) -> dict[str, Aggregation]:
        """All texts together."""
        return {"bits_per_byte": _bits_per_byte}

    def higher_is_better(self) -> dict[str, bool]:
        """Less is better."""
        return {"bits_per_byte": False}


class GrammarTask(OwnTask):
    """Minimal pairs."""

    def rows(self) -> list[dict[str, Any]]:
        """The pairs."""
        return offline.grammar()


class ArithmeticTask(OwnTask):
    """Small sums in words."""

    def rows(self) -> list[dict[str, Any]]:
        """The questions."""
        return offline.arithmetic()


class TimelessTask(OwnTask):
    """Facts without a date."""

    def rows(self) -> list[dict[str, Any]]:
        """The questions."""
        return offline.timeless()


_withheld: dict[str, tuple[Withheld, Withheld]] = {}
"""Digest → context and continuation. Requests find their words here, so that none are in what is logged or pickled."""


class Sealed(Instance):
    """A request that gives its words to the model, and to whoever asks after it was answered only their digest."""

    @property
    def args(self) -> tuple[str, ...]:
        """Context and continuation."""
        return self.arguments if self.resps else _withheld[self.doc["key"]]


class StudyTask(OwnTask):
    """A measure of ours. The context is made here whole: no few-shot examples, no chat template."""

    @cached_property
    def study(self) -> Study:
        """What the metadata names."""
        return Study.of(self.config.metadata or {})

    def asked(self) -> Iterable[Asked]:
        """What is asked."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """One document a request."""
        return [found.doc for found in self.asked()]

    def instance(self, doc: dict[str, Any], metadata: Any) -> Instance:
        """The request of a document."""
        raise NotImplementedError

    def construct_requests(self, doc: dict[str, Any], ctx: Any, **kwargs: Any) -> Instance:
        """One request a document, whatever context lm-eval has built for it."""
        return self.instance(doc, kwargs["metadata"])


class CutoffTask(StudyTask):
    """Probes: is each answer the greedy one, and how likely is it; from these recall and A1."""

    FIGURES = ("recall_before", "recall_after", "cutoff_status", "cutoff_year", "cutoff_low", "cutoff_high")

    def asked(self) -> Iterable[Asked]:
        """Every probe, or as many as `--metadata probes=` says, evenly spaced."""
        return asked_probes(self.study)

    def instance(self, doc: dict[str, Any], metadata: Any) -> Instance:
        """The answer given the prompt."""
        arguments = (Kept(doc["context"]), doc["continuation"])
        return Instance(request_type="loglikelihood", doc=doc, arguments=arguments, idx=0, metadata=metadata)

    def process_results(self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """Two numbers of the probe, and both with its id for each figure that is computed over all probes."""
        logprob, correct = results[0]
        row = (doc["id"], logprob, correct)
        return {"recall": float(correct), "logprob": logprob, **dict.fromkeys(self.FIGURES, row)}

    def aggregation(self) -> dict[str, Aggregation]:
        """How each figure is made of the probes'."""
        figures = {key: lambda rows, key=key: self._figure(key, tuple(rows)) for key in self.FIGURES}
        return {"recall": mean, "logprob": mean, **figures}

    def higher_is_better(self) -> dict[str, bool]:
        """Only what is known of the time before the cutoff has a better side for everyone."""
        return {"recall_before": True}

    def _figure(self, key: str, rows: tuple[tuple[str, float, bool], ...]) -> Any:
        year = self.study.cutoff_year
        if key.startswith("recall"):
            before = key == "recall_before"
            return _share([correct for id, _, correct in rows if (self._docs[id]["year"] <= year) == before])
        return self._a1(rows)[key]

    @lru_cache(maxsize=1)  # noqa: B019  one entry, which a task may keep as long as it lives
    def _a1(self, rows: tuple[tuple[str, float, bool], ...]) -> dict[str, Any]:
        """A1, computed once for the four figures that are told of it."""
        scores = [item(self._docs[id], logprob=logprob, correct=correct) for id, logprob, correct in rows]
        return measure(scores, None, None, self.study.cutoff_year, self.study.rules)

    @cached_property
    def _docs(self) -> dict[str, dict[str, Any]]:
        return {str(doc["id"]): dict(doc) for doc in cast("Iterable[dict[str, Any]]", self.dataset["test"])}


class ReproductionTask(StudyTask):
    """The target, its editions and its controls, each as one request; figures are the target's."""

    def asked(self) -> Iterable[Asked]:
        """The texts."""
        return asked_texts(self.study)

    def rows(self) -> list[dict[str, Any]]:
        """One document a text, without its words."""
        found = list(self.asked())
        for asked in found:
            request = asked.request
            _withheld[asked.doc["key"]] = (Withheld(request.context), Withheld(request.continuation))
        return [asked.doc for asked in found]

    def instance(self, doc: dict[str, Any], metadata: Any) -> Instance:
        """The text given its prompt."""
        arguments = (f"prompt of {doc['sha256']}", f"text of {doc['sha256']}")
        return Sealed(request_type="loglikelihood", doc=doc, arguments=arguments, idx=0, metadata=metadata)

    def process_results(self, doc: Mapping[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, Any]:
        """B1, and whether every token is the greedy one, with the kind of text that they belong to."""
        logprob, greedy = results[0]
        bits = -logprob / (math.log(2) * doc["n_bytes"])
        found = {"nats": -logprob, "bits_per_byte": bits, "is_greedy": float(greedy), "control_bits_per_byte": bits}
        return {key: (doc["kind"], value) for key, value in found.items()}

    def aggregation(self) -> dict[str, Aggregation]:
        """The target's own figures, and the mean over the controls."""
        own = dict.fromkeys(("nats", "bits_per_byte", "is_greedy"), lambda found: _mean_of("target", found))
        return {**own, "control_bits_per_byte": lambda found: _mean_of("control", found)}

    def higher_is_better(self) -> dict[str, bool]:
        """Neither: what is wanted of the target is not what is wanted of a control."""
        return {}


def _bits_per_byte(found: Sequence[tuple[float, int]]) -> float:
    return -math.fsum(nats for nats, _ in found) / (math.log(2) * sum(n_bytes for _, n_bytes in found))


def _share(answers: Sequence[bool]) -> float | None:
    return sum(answers) / len(answers) if answers else None


def _mean_of(kind: str, found: Sequence[tuple[str, float]]) -> float | None:
    values = [value for its_kind, value in found if its_kind == kind]
    return math.fsum(values) / len(values) if values else None
