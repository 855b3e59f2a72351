"""The keys to panels by year, drawn once for all of them."""

from __future__ import annotations


def key_of_curves() -> str:
    """What each line, band and shade of recall by year means."""
    own = (
        (_line("var(--accent)", "", 2.4) + '<circle cx="17" cy="7" r="3" fill="var(--accent)"/>', "this method"),
        ('<rect x="1" y="2" width="32" height="10" fill="var(--accent)" opacity=".25"/>', "its 95 % interval"),
    )
    return _key(own, "cutoff found, and its interval")


def key_of_surprisal() -> str:
    """The same of surprise by year."""
    return _key(((_line("var(--accent)", "", 2), "this method"),), "jump found, and its interval")


def _key(own: tuple[tuple[str, str], ...], found: str) -> str:
    entries = (
        *own,
        (_line("var(--muted)", "5 3", 1.4), "base"),
        (_line("var(--muted)", "2 3", 1.4), "gold"),
        (
            '<line x1="17" y1="0" x2="17" y2="14" stroke="var(--accent)" stroke-width="1.6" stroke-dasharray="4 3"/>'
            '<rect x="8" y="0" width="18" height="3" fill="var(--accent)"/>',
            found,
        ),
        ('<rect x="1" y="0" width="32" height="14" fill="#be9628" opacity=".22"/>', "years to be forgotten"),
    )
    items = "".join(
        f'<li><svg width="34" height="14" aria-hidden="true">{mark}</svg>{text}</li>' for mark, text in entries
    )
    return f'<ul class="key">{items}</ul>'


def _line(colour: str, dashes: str, width: float) -> str:
    return f'<line x1="0" y1="7" x2="34" y2="7" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dashes}"/>'
