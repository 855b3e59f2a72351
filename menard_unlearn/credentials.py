"""What goes by the name of a key or a password, or looks like one: refused on command lines, hidden wherever a
configuration is shown."""

from __future__ import annotations

import re

NAME = re.compile(r"(?:.*[_-])?(?:api_?key|access_?key|secret|password|passwd|token)")
SPECIAL_TOKENS = ("pad_token", "bos_token", "eos_token", "unk_token", "mask_token", "sep_token", "cls_token")
"""A tokenizer's, whose names end alike."""
VALUE = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|wandb_v\d+_\w{20,})|\b[A-Z_]*(?:KEY|TOKEN|SECRET|PASSWORD)=[^\s$][^\s']*"
)
"""Keys of known services, and variables of a shell command (hydra.launcher.setup) set to more than another variable."""
HIDDEN = "(hidden)"


def is_secret(key: str, value: object) -> bool:
    """Whether a setting is one, by the last part of its dotted name or by what its value looks like."""
    last = key.rpartition(".")[2].lower()
    return (NAME.fullmatch(last) is not None and last not in SPECIAL_TOKENS) or VALUE.search(str(value)) is not None


def blotted(text: str) -> str:
    """The text without what looks like a key."""
    return VALUE.sub(HIDDEN, text)
