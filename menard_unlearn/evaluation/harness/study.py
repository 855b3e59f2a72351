"""What our own tasks ask, from the metadata that lm-eval hands to a task.

lm-eval merges `--metadata '{...}'` into the arguments of the model. Ours are `config`, a config.yaml of a run, and the
sections `corpus`, `split`, `wording`, `target` and `evaluation`, whose keys go before those of that file. What neither
names is the shipped default: the almanac, the embedded target, the cutoff 1939-12-31.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from menard_unlearn.config import build, conf_dir
from menard_unlearn.corpus.almanac import TARGET_TITLE, control_text, target_text
from menard_unlearn.corpus.sources import Corpus
from menard_unlearn.corpus.split import SplitConfig
from menard_unlearn.corpus.statements import WordingConfig
from menard_unlearn.corpus.study import study_data
from menard_unlearn.errors import UserError
from menard_unlearn.evaluation.items import Probe, probes_of
from menard_unlearn.evaluation.target import Target, TargetConfig, load_target
from menard_unlearn.models.load import context_of, resolve
from menard_unlearn.statistics.cutoff import Rules

SHIPPED = {
    "corpus": ("corpus/almanac.yaml", None),
    "split": ("common.yaml", "split"),
    "wording": ("common.yaml", "wording"),
    "target": ("target/embedded.yaml", None),
    "evaluation": ("evaluation/default.yaml", None),
}
"""Section → the file of conf/ with its default, and the key there."""

API_CONTEXT = 2048
"""What lm-eval's completions client takes for the context where max_length does not say."""


@dataclass(frozen=True)
class Study:
    """Sections of the configuration and what is made of them."""

    sections: Mapping[str, Mapping[str, Any]]
    """Name → values, of each section of `SHIPPED`."""
    metadata: Mapping[str, Any]
    """As lm-eval hands it over: arguments of the model, and ours."""

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Study:
        """Raises UserError where a file is missing or a section is no mapping."""
        path = metadata.get("config")
        run = {} if path is None else _yaml(Path(path), "--metadata config")
        sections = {}
        for name, (file, key) in SHIPPED.items():
            shipped = _yaml(conf_dir() / file, "conf")
            given = metadata.get(name, {})
            if not isinstance(given, Mapping):
                raise UserError(f"--metadata {name}={given!r} is no mapping: give its keys, as in a run's config.yaml")
            base = run.get(name) or (shipped if key is None else shipped[key])
            # keys of another class than the default's would not fit it
            sections[name] = dict(given) if "_target_" in given else {**base, **given}
        return cls(sections, metadata)

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that lm-eval uses. Raises UserError where the arguments of the model do not name one."""
        names = ("tokenizer", "pretrained", "model")
        found = next((str(self.metadata[name]) for name in names if self.metadata.get(name)), None)
        if found is None:
            raise UserError("the task needs the model's tokenizer: --model_args tokenizer=<folder or id>")
        if self.metadata.get("add_bos_token") and "base_url" in self.metadata:
            raise UserError("the task writes BOS itself: leave add_bos_token out of --model_args")
        try:
            return AutoTokenizer.from_pretrained(resolve(found), revision=str(self.metadata.get("revision", "main")))
        except (OSError, ValueError) as error:
            raise UserError(f"no tokenizer at {found!r}: --model_args tokenizer=<folder or id>") from error

    @cached_property
    def limit(self) -> int | None:
        """The longest sequence that lm-eval passes on whole; None where nothing says."""
        given = self.metadata.get("max_length") or self.metadata.get("max_model_len")
        if "base_url" in self.metadata:
            return int(given or API_CONTEXT) - 1  # the client keeps one for the token that it has to ask for
        if given is not None or self.metadata.get("pretrained") is None:
            return None if given is None else int(given)
        path = resolve(str(self.metadata["pretrained"]))
        return context_of(AutoConfig.from_pretrained(path, revision=str(self.metadata.get("revision", "main"))))

    @cached_property
    def target(self) -> Target:
        """The text to reproduce."""
        config = build(self.sections["target"], TargetConfig)
        return load_target(config, embedded=target_text(), title=TARGET_TITLE, control=control_text())

    @cached_property
    def cutoff_year(self) -> int:
        """The last year that the model may know."""
        return build(self.sections["split"], SplitConfig).parsed_cutoff.year

    @property
    def rules(self) -> Rules:
        """How A1 is decided."""
        section = self.sections["evaluation"]
        if missing := [field.name for field in fields(Rules) if field.name not in section]:
            raise UserError(f"--metadata evaluation lacks {', '.join(missing)}: give them as in a run's config.yaml")
        return Rules(**{field.name: section[field.name] for field in fields(Rules)})

    def probes(self) -> list[Probe]:
        """The probes of every fact on either side of the cutoff, as `menard evaluate` asks them."""
        corpus = build(self.sections["corpus"], Corpus).load()
        split, wording = build(self.sections["split"], SplitConfig), build(self.sections["wording"], WordingConfig)
        editions = [edition.whole for edition in self.target.editions]
        return probes_of(study_data(corpus, split, wording, self.target.whole, editions))


def _yaml(path: Path, what: str) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{what}: no file {path}; give the config.yaml of a run")
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise UserError(f"{what}: {path} is no configuration; give the config.yaml of a run")
    return found
