"""The one exception that is shown to the user as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line: what was given, what is allowed, what to type."""
