from __future__ import annotations

import sys
from pathlib import Path

# The tiny model is one with that of the trainer's tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
