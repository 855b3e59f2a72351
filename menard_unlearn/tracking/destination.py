"""Online, offline or not at all: decided before wandb is asked, because a dead server costs it a minute and a half."""

from __future__ import annotations

import netrc
import os
import re
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from menard_unlearn.errors import UserError

MODES = ("auto", "online", "offline", "disabled")

NO_ANSWER = "does not answer"

FORBIDDEN = re.compile(r"[/\\#?%:]")
"""What wandb takes in the name of neither a project nor a user."""
LONGEST_NAME = 128

PUBLIC_HOST = "api.wandb.ai"
"""The host under which `wandb login` files the key of the public service, whatever address serves it today."""


def requested_mode(mode: str, environ: Mapping[str, str]) -> str:
    """The mode asked for: the configuration's, or, where that says `auto`, that of `WANDB_MODE` if it is set.

    Raises:
        UserError: `mode` is none of `MODES`.
    """
    if mode not in MODES:
        raise UserError(f"tracking.mode={mode!r} is not one of {', '.join(MODES)}; type tracking.mode=auto")
    from_environment = environ.get("WANDB_MODE", "")
    return from_environment if mode == "auto" and from_environment in MODES else mode


def check_name(what: str, name: str | None) -> None:
    """Raises UserError where `name` can be neither a project's nor a user's or team's; None is left to wandb."""
    if name is not None and (not name or FORBIDDEN.search(name) or len(name) > LONGEST_NAME):
        raise UserError(
            rf"{what} {name!r} is no name that wandb takes: 1 to {LONGEST_NAME} characters without / \ # ? % :"
        )


def rank(environ: Mapping[str, str]) -> int:
    """This process's number among those that train together; 0 where it is alone. Only rank 0 tracks."""
    for name in ("RANK", "SLURM_PROCID"):
        if environ.get(name, "").isdigit():
            return int(environ[name])
    return 0


def has_key(base_url: str, environ: Mapping[str, str]) -> bool:
    """Whether wandb would find a key for this server without asking at the terminal."""
    if environ.get("WANDB_API_KEY") or environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = [urllib.parse.urlsplit(base_url).netloc]
    if "WANDB_BASE_URL" not in environ:
        hosts.append(PUBLIC_HOST)
    try:
        known = netrc.netrc(_netrc_path(environ)).hosts
    except (OSError, netrc.NetrcParseError):
        return False
    return any(host in known for host in hosts)


def _netrc_path(environ: Mapping[str, str]) -> Path:
    if environ.get("NETRC"):
        return Path(environ["NETRC"]).expanduser()
    unix, windows = Path("~/.netrc").expanduser(), Path("~/_netrc").expanduser()
    return windows if windows.exists() and not unix.exists() else unix


def reachable(base_url: str, seconds: float) -> bool:
    """Whether something accepts a connection at the server, or at the proxy that leads to it, within `seconds`.

    The attempt runs in a thread: resolving a name has no timeout of its own, and on a compute node without network it
    can take half a minute.
    """
    address = _first_hop(base_url)
    opened = threading.Event()

    def attempt() -> None:
        try:
            socket.create_connection(address, timeout=seconds).close()
        except OSError:
            return
        opened.set()

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(seconds)
    return opened.is_set()


def _first_hop(base_url: str) -> tuple[str, int]:
    url = urllib.parse.urlsplit(base_url)
    proxy = urllib.request.getproxies().get(url.scheme)
    if proxy and not urllib.request.proxy_bypass(url.hostname or ""):
        url = urllib.parse.urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    return url.hostname or "", url.port or (443 if url.scheme == "https" else 80)


def choose(mode: str, base_url: str, probe_seconds: float = 3.0) -> tuple[str, str]:
    """The mode to open wandb in, and why in a few words.

    Args:
        mode: what `requested_mode` said, not `disabled`.
        base_url: address of the wandb server.
        probe_seconds: how long to wait for that server to accept a connection.
    """
    if mode == "offline":
        return "offline", "asked for"
    if not has_key(base_url, os.environ):
        return "offline", "no key for the server (wandb login, or WANDB_API_KEY)"
    if not reachable(base_url, probe_seconds):
        return "offline", f"{urllib.parse.urlsplit(base_url).netloc} {NO_ANSWER}"
    return "online", "a key was found and the server answers"
