from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helper module beside this file is also imported by the processes that the tests start.
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session", autouse=True)
def _collection_is_quick() -> Iterator[None]:
    """Each training starts with a full garbage collection, which otherwise walks over all of transformers."""
    import tiny_training  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
