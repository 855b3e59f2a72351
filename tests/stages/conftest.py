from __future__ import annotations

import sys
from pathlib import Path

import pytest

# The helper modules beside this file are also imported by the processes that the tests start.
sys.path.insert(0, str(Path(__file__).parent))

from tiny_study import Study, make_study, the_run

from menard_unlearn import cli


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Data and models that every test of a stage works on; none may change them."""
    return make_study(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def finished(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of npo, with base and gold beside it; no test may change it."""
    runs = tmp_path_factory.mktemp("finished")
    assert cli.run(study.unlearning(runs)) == 0
    return the_run(runs)
