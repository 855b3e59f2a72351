"""The exceptions that are shown to the user as a single line."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line: what was given, what is allowed, what to type."""


class Busy(UserError):
    """Another process is at work in the run's directory."""


def in_one_line(error: BaseException | str) -> str:
    """What the error says, its line breaks and runs of white space made single spaces."""
    return " ".join(str(error).split())
