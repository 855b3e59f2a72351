"""`python -m menard_unlearn` is `menard`."""

from __future__ import annotations

from menard_unlearn.cli import main

main()
