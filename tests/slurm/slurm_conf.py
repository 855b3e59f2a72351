"""The configuration files of a private one-machine Slurm: several nodes on one host, fake GPUs, two partitions."""

from __future__ import annotations

import getpass
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What a cluster is brought up with. Processors, memory and GPUs are declared, not owned: Slurm counts them."""

    nodes: int
    """Nodes n0, n1, ...: a slurmd each, all on this host."""
    cpus: int
    """Processors that a node declares."""
    memory_mb: int
    """Memory that a node declares."""
    gpus: int
    """GPUs that a node declares; jobs see their numbers in CUDA_VISIBLE_DEVICES and nothing else of them."""
    kill_wait: int
    """Seconds from TERM to KILL, at a time limit, an scancel or a requeue."""
    grace: int
    """Seconds that a job of `main` gets when a job of `urgent` preempts it; 0 is Slurm's own default."""
    node_timeout: int
    """Seconds after which a silent node counts as down and its jobs are requeued."""
    hold_requeued: int
    """Seconds that Slurm waits before a requeued job starts, less one: how long credentials live, 5 at least."""


DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "kmsg", "fuse", "console")


def fake_gpus(count: int) -> list[str]:
    """So many character devices; GPUs that are only counted are refused by slurmd, and so is one device twice."""
    found = [f"/dev/{name}" for name in DEVICES if Path("/dev", name).is_char_device()]
    if count > len(found):
        raise SystemExit(f"error: {count} GPUs a node, and /dev has {len(found)} devices to pass for them: fewer GPUs")
    return found[:count]


def write(root: Path, settings: Settings, ports: Sequence[int], munge: bool) -> None:
    """Write slurm.conf, gres.conf and cgroup.conf into `root/etc`; `ports` are the controller's, then the nodes'."""
    etc = root / "etc"
    gpus = "".join(f"Name=gpu File={device}\n" for device in fake_gpus(settings.gpus))
    (etc / "gres.conf").write_text(f"AutoDetect=off\n{gpus}")
    (etc / "cgroup.conf").write_text("CgroupAutomount=no\n")
    (etc / "slurm.conf").write_text(slurm_conf(root, settings, ports, munge))


def slurm_conf(root: Path, settings: Settings, ports: Sequence[int], munge: bool) -> str:
    """The text of slurm.conf."""
    host, user = platform.node().partition(".")[0], getpass.getuser()
    names = [f"n{number}" for number in range(settings.nodes)]
    gres = f" Gres=gpu:{settings.gpus}" if settings.gpus else ""
    nodes = "\n".join(
        f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={settings.cpus}"
        f" RealMemory={settings.memory_mb}{gres} State=UNKNOWN"
        for name, port in zip(names, ports[1:], strict=True)
    )
    auth = f"socket={root}/run/munge.sock," if munge else ""
    kind = "munge" if munge else "none"
    partition = f"Nodes={','.join(names)} MaxTime=INFINITE DefaultTime=10 State=UP OverSubscribe=NO"
    return f"""\
ClusterName=menard
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/{kind}
CredType=cred/{kind}
# A requeued job starts when its old credential has run out, and a second later: 121 s by default.
AuthInfo={auth}cred_expire={settings.hold_requeued}

StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd-%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd-%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true

# Nothing that needs root or cgroups; a node may declare more than the machine has.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SwitchType=switch/none
SlurmdParameters=config_overrides
ReturnToService=2
{"GresTypes=gpu" if settings.gpus else ""}

# A job is looked at as soon as it is there: the defaults let jobs of a second wait for many.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=10000,bf_interval=1,batch_sched_delay=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait={settings.kill_wait}
# There is no accounting: finished jobs have to stay in slurmctld's memory as long as anyone may ask for them.
MinJobAge=86400
AccountingStorageType=accounting_storage/none
SlurmctldTimeout=10
SlurmdTimeout={settings.node_timeout}
InactiveLimit=0
CompleteWait=0
MessageTimeout=10
TCPTimeout=2

{nodes}
PartitionName=main {partition} Default=YES PriorityTier=1 GraceTime={settings.grace}
PartitionName=urgent {partition} PriorityTier=10 PreemptMode=OFF
"""
