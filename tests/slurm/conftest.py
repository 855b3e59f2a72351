"""One private Slurm for all scenarios; without Slurm's packages they are skipped, each by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import DEFAULTS, PACKAGES, Cluster, default_root, missing
from slurm_scenario import Scenario
from tiny_study import Study, make_study


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Up with its usual settings; a folder of its own, so that a cluster of `make slurm-up` is left alone."""
    if lacking := missing():
        pytest.skip(f"no {', '.join(lacking)} here: apt-get install --no-install-recommends {PACKAGES}")
    found = Cluster(default_root().with_name(f"{default_root().name}-{os.getpid()}"))
    try:
        found.up(DEFAULTS)
        yield found
    finally:
        found.down(purge=True)


@pytest.fixture
def scenario(cluster: Cluster, tmp_path: Path) -> Iterator[Scenario]:
    """The cluster, whole and empty before the test and after it."""
    cluster.start()
    made = Scenario(cluster, tmp_path / "runs")
    yield made
    cluster.start()
    cluster.cancel_all()
    made.drain()


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Data and models for real trainings; no test may change them."""
    return make_study(tmp_path_factory.mktemp("study"))
