"""A private Slurm on this machine, from Debian's packages, as root or as any user: `cluster.py up`, `cluster.py down`.

Everything it writes is in one folder, a checkout has one cluster, and several checkouts do not meet: ports are sought.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import slurm_conf
from processes import alive, free_ports, running, stop, tail, until
from slurm_conf import Settings

CHECKOUT = Path(__file__).resolve().parents[2]
PACKAGES = "slurmctld slurmd slurm-client munge"
LONGEST_ROOT = 60
"""Characters of the folder's path: unix sockets in it have 108 for all of theirs."""

# Debian keeps daemons where an ordinary user's PATH does not look.
os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def missing() -> list[str]:
    """The programs that a cluster needs and this machine has not."""
    return [name for name in ("slurmctld", "slurmd", "sbatch", "squeue") if shutil.which(name) is None]


def default_root() -> Path:
    """Where this checkout's cluster lives: $MENARD_SLURM_DIR, or a short path made of the user and the checkout."""
    given = os.environ.get("MENARD_SLURM_DIR")
    mark = hashlib.sha256(str(CHECKOUT).encode()).hexdigest()[:8]
    return Path(given).resolve() if given else Path("/tmp", f"menard-slurm-{os.getuid()}-{mark}")


def forgotten() -> list[Path]:
    """Clusters of tests, named after their process, that were killed before they could stop them."""
    root = default_root()
    found = {path: path.name.removeprefix(f"{root.name}-") for path in root.parent.glob(f"{root.name}-*")}
    own = {path: int(pid) for path, pid in found.items() if pid.isdigit() and path.stat().st_uid == os.getuid()}
    return [path for path, pid in own.items() if not alive(pid)]


@dataclass(frozen=True)
class Cluster:
    """The cluster in one folder, up or down."""

    root: Path
    """Its folder."""

    @property
    def conf(self) -> Path:
        """What SLURM_CONF has to say for Slurm's commands to mean this cluster."""
        return self.root / "etc/slurm.conf"

    @property
    def env_file(self) -> Path:
        """A file for the shell to source."""
        return self.root / "env.sh"

    def log(self, daemon: str) -> Path:
        """What `slurmctld`, `slurmd-n0`, ... or `munged` wrote."""
        return self.root / f"log/{daemon}.log"

    def pid(self, daemon: str) -> int | None:
        """Its process, or None where it does not run."""
        return running(self.root / f"run/{daemon}.pid", daemon.partition("-")[0])

    def settings(self) -> Settings | None:
        """What it was last brought up with."""
        file = self.root / "settings.json"
        return Settings(**json.loads(file.read_text())) if file.is_file() else None

    def daemons(self) -> list[str]:
        """Names of all that belong to it, in the order in which they start; `munged` only where it is used."""
        settings = self.settings()
        nodes = [f"slurmd-n{number}" for number in range(settings.nodes if settings else 0)]
        munged = ["munged"] if (self.root / "munge/key").is_file() else []
        return [*munged, *(["slurmctld", *nodes] if nodes else [])]

    def up(self, settings: Settings) -> None:
        """Start what does not run. A cluster that is up with other settings is left alone and said so."""
        if len(str(self.root)) > LONGEST_ROOT:
            raise SystemExit(f"error: {self.root} is too long for unix sockets: MENARD_SLURM_DIR=<a shorter path>")
        self.root.mkdir(parents=True, exist_ok=True)
        if self.root.stat().st_uid != os.getuid():
            raise SystemExit(f"error: {self.root} belongs to another user: MENARD_SLURM_DIR=<a path of yours>")
        for name in ("etc", "run", "log", "state", "spool", "munge"):
            (self.root / name).mkdir(exist_ok=True)
        with self.locked():
            if any(self.pid(daemon) for daemon in self.daemons()):
                if self.settings() != settings:
                    raise SystemExit(f"error: the cluster in {self.root} is up with other settings: make slurm-down")
            else:
                self.write(settings)
            self.start()

    def write(self, settings: Settings) -> None:
        """Write the configuration of a cluster that does not run."""
        munge = self.make_munge_key()
        slurm_conf.write(self.root, settings, free_ports(1 + settings.nodes, str(self.root)), munge)
        for number in range(settings.nodes):
            (self.root / f"spool/n{number}").mkdir(exist_ok=True)
        self.env_file.write_text(f"export SLURM_CONF={self.conf}\n")
        (self.root / "settings.json").write_text(json.dumps(asdict(settings)))

    def make_munge_key(self) -> bool:
        """Whether munge authenticates here: it is installed and starts. Else anyone on this machine may submit."""
        (self.root / "munge").chmod(0o700)  # munged refuses a key that others could read
        key = self.root / "munge/key"
        key.unlink(missing_ok=True)
        if shutil.which("munged") is None:
            return False
        with open(key, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            file.write(secrets.token_bytes(128))
        if self.start_munged():
            return True
        print(f"note: munged does not start ({self.log('munged')}): auth/none", file=sys.stderr)
        key.unlink()
        return False

    def start_munged(self) -> bool:
        """Whether munged runs afterwards."""
        run, own = self.root / "run", self.root / "munge"
        options = {
            "key-file": own / "key",
            "seed-file": own / "seed",
            "socket": run / "munge.sock",
            "pid-file": run / "munged.pid",
            "log-file": self.log("munged"),
            "num-threads": 2,
        }
        # --force: the socket is not where a system's would be, and its folder need not be another user's to read
        command = ["munged", "--force", *(f"--{name}={value}" for name, value in options.items())]
        self.log("munged").touch(mode=0o600)
        return self.pid("munged") is not None or subprocess.run(command, capture_output=True).returncode == 0

    def start(self) -> None:
        """Start every daemon that does not run, and wait until all nodes can take jobs; 20 s at most."""
        for daemon in self.daemons():
            if self.pid(daemon) is not None:
                continue
            if daemon == "munged":
                self.start_munged()
            elif daemon == "slurmctld":
                self.slurm("slurmctld")
            else:
                self.slurm("slurmd", "-N", daemon.removeprefix("slurmd-"))
        if not until(self.ready, 20):
            logs = "\n".join(f"{file.name}: {line}" for file in self.root.glob("log/*") for line in tail(file))
            raise SystemExit(f"{logs}\nerror: Slurm did not come up; its logs are in {self.root}/log")

    def ready(self) -> bool:
        """Whether every node can take a job."""
        settings = self.settings()
        found = self.slurm("sinfo", "-h", "-N", "-p", "main", "-t", "idle,mixed,allocated", "-o", "%N %t", check=False)
        # an asterisk marks a node that the controller has not heard of
        return settings is not None and found.count("\n") == settings.nodes and "*" not in found

    def slurm(self, *command: str, check: bool = True) -> str:
        """Run one of Slurm's programs on this cluster and return what it prints."""
        environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        done = subprocess.run(
            command, env=environment, cwd=self.root, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if check and done.returncode != 0:
            raise SystemExit(f"error: {' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def down(self, purge: bool) -> None:
        """Cancel every job and stop every process; `purge` also removes the folder."""
        if not self.root.is_dir():
            return
        with self.locked():
            if self.pid("slurmctld") is not None and self.slurm("squeue", "-h", check=False):
                self.cancel_all()
            for daemon in reversed(self.daemons()):
                stop(self.pid(daemon))
            until(lambda: not [stop(pid, signal.SIGKILL) for pid in self.left()], 5)
            if purge:
                shutil.rmtree(self.root)

    def cancel_all(self) -> None:
        """End every job by KILL: nobody waits for what is thrown away. Pending ones know no signals."""
        own = ("scancel", "--quiet", f"--user={getpass.getuser()}")
        self.slurm(*own, "--full", "--signal=KILL", "--state=RUNNING", check=False)
        self.slurm(*own, check=False)

    def left(self) -> list[int]:
        """Processes of its jobs, and the slurmstepds above them, which outlive the daemons."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone, or another user's
                held = (process / "environ").read_bytes().split(b"\0")
                task = f"SLURM_CONF={self.conf}".encode() in held and any(v.startswith(b"SLURM_JOB_ID=") for v in held)
                # a slurmstepd writes its title over its environment, but stands where slurmd stood
                step = (process / "comm").read_text().strip() == "slurmstepd"
                if task or (step and (process / "cwd").readlink() == self.root / "log"):
                    found.append(int(process.name))
        return [pid for pid in found if pid != os.getpid() and alive(pid)]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Two commands at once take turns."""
        with open(self.root / ".lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def main() -> None:
    """What `make slurm-up` and `make slurm-down` call."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start it, or what of it does not run", formatter_class=parser.formatter_class)
    for name, value in asdict(DEFAULTS).items():
        up.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=name.replace("_", " "))
    commands.add_parser("down", help="cancel its jobs, stop it, remove its folder; and those that killed tests left")
    commands.add_parser("check", help="whether Slurm is installed")
    arguments = vars(parser.parse_args())
    command = arguments.pop("command")
    if command == "down":
        for root in (default_root(), *forgotten()):
            Cluster(root).down(purge=True)
        return
    if lacking := missing():
        raise SystemExit(f"error: {', '.join(lacking)} not found: apt-get install --no-install-recommends {PACKAGES}")
    if command == "up":
        cluster = Cluster(default_root())
        cluster.up(Settings(**arguments))
        print(f"Slurm is up: source {cluster.env_file}")


DEFAULTS = Settings(nodes=2, cpus=8, memory_mb=65536, gpus=4, kill_wait=5, grace=0, node_timeout=10, hold_requeued=5)

if __name__ == "__main__":
    main()
