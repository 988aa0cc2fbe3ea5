"""Which nodes of a deployment live on this machine, and who keeps them.

    <data>/ray/<deployment>/<host name>/<node>/
        node      the process id; locked by the node itself as long as it lives
        keeper    locked by the process that keeps it; its time is when it was last kept
        about     JSON: what the node was started for
        ready     its addresses, one a line, once it serves
    <data>/ray/<deployment>/<host name>/.closed      the session whose nodes are to end

A lock goes with its holder, so an orphan is a node whose `node` is locked and whose `keeper` is
not, whatever killed its keeper, and nobody ever signals a process that took over an old number.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class About:
    """What a node was started for: nodes equal in this may stand in for each other.

    `session` is one run of `ragmesh up`, `roll` the number of times it replaced its nodes.
    """

    placement: str
    session: str
    roll: int


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a node is reached, `host:port`; `metrics` is empty where it has no such page."""

    grpc: str
    metrics: str


class Record:
    """The directory of one node. Whoever changes the node holds `keep`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._keeper: int | None = None

    @property
    def name(self) -> str:
        return self.directory.name

    @property
    def ready_file(self) -> Path:
        return self.directory / "ready"

    def keep(self) -> bool:
        """Become the keeper; False where another process is, or the directory is gone."""
        try:
            keeper = os.open(
                self.directory / "keeper", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(keeper, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(keeper)
            return False
        self._keeper = keeper
        return True

    def touch(self) -> None:
        """Note that the node is kept now."""
        if self._keeper is not None:
            os.utime(self._keeper)

    def release(self) -> None:
        """Keep the node no longer. Twice does nothing."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            os.close(keeper)

    def remove(self) -> None:
        """Forget a node that has ended."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.release()

    def pid(self) -> int:
        """The node's process; 0 where it has ended, or never began."""
        try:
            node = os.open(self.directory / "node", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            fcntl.flock(node, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return int(os.read(node, 20))
        else:
            return 0
        finally:
            os.close(node)  # and with it our lock

    def about(self) -> About | None:
        """What it was started for; None where that was never written."""
        try:
            return About(**json.loads((self.directory / "about").read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def addresses(self) -> Addresses | None:
        """Where it is reached; None before it serves."""
        try:
            grpc, _, metrics = self.ready_file.read_text().partition("\n")
        except OSError:
            return None
        return Addresses(grpc.strip(), metrics.strip())

    def unkept_s(self) -> float:
        """Seconds since it was last kept; 0 where that cannot be told."""
        with contextlib.suppress(OSError):
            return max(0.0, time.time() - (self.directory / "keeper").stat().st_mtime)
        return 0.0


def home(data_dir: Path, deployment: str) -> Path:
    """Where the records of this machine are."""
    return data_dir / "ray" / deployment / socket.gethostname()


def new_record(records: Path, name: str, about: About) -> Record:
    """A directory for a node that is about to start, kept by us."""
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    unseen = Record(records / f".{name}")
    unseen.directory.mkdir(mode=0o700)
    unseen.keep()
    (unseen.directory / "about").write_text(json.dumps(asdict(about)))
    unseen.directory = unseen.directory.rename(records / name)
    return unseen


def all_records(records: Path) -> Iterator[Record]:
    """Every node that has a directory here, alive or not."""
    with contextlib.suppress(FileNotFoundError):
        for directory in sorted(records.iterdir()):
            if not directory.name.startswith("."):
                yield Record(directory)


def orphans(records: Path) -> Iterator[Record]:
    """Every living node without a keeper, kept by us from now on: pass it to who will keep it, or
    `release` it. What is left of nodes that have ended is removed on the way."""
    for record in all_records(records):
        if not record.keep():
            continue
        if record.pid():
            yield record
        else:
            record.remove()


def close(records: Path, session: str) -> None:
    """Tell the keepers of a session, which Ray may not reach, that its nodes are to end."""
    records.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = records / ".closed.new"
    fresh.write_text(session)
    fresh.replace(records / ".closed")


def is_closed(records: Path, session: str) -> bool:
    """Whether the nodes of a session are to end."""
    try:
        return (records / ".closed").read_text() == session
    except OSError:
        return False
