"""The directory of one node's segments: held by one process at a time.

The kernel drops the lock with the process that took it, so a stale lock cannot be.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

from engine.errors import FailedPrecondition

SLOTS_MAX = 64
"""Nodes of one data directory that may each have an index directory in it."""


class HeldIndex:
    """An index directory that this process holds, until `release` or its end."""

    def __init__(self, root: Path, lock: int) -> None:
        self.root = root
        self._lock: int | None = lock

    def release(self) -> None:
        """Let go of it, when nothing writes into it any more. Twice does nothing."""
        if self._lock is not None:
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> HeldIndex:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def hold_index(root: Path) -> HeldIndex:
    """Make the directory where it is missing, and take its lock.

    Raises FailedPrecondition where another process holds it (who, and since when), or where it
    cannot be used.
    """
    root = root.absolute()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FailedPrecondition(
            f"The index directory {root} cannot be used: {error.strerror}. Choose another with "
            "RAGMESH_INDEX__DIRECTORY.",
            metadata={"path": str(root), "problem": str(error.strerror)},
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(lock)
        os.close(lock)
        raise _held_by(root, holder) from None
    except BaseException:
        os.close(lock)
        raise
    text = json.dumps({"pid": os.getpid(), "started_at_s": time.time()}).encode()
    os.pwrite(lock, text, 0)
    os.ftruncate(lock, len(text))
    return HeldIndex(root, lock)


def hold_free_index(parent: Path, *, slots_max: int = SLOTS_MAX) -> HeldIndex:
    """Hold the first of `parent/0`, `parent/1` … that no process holds, so that nodes of one data
    directory find theirs again after a restart. Raises FailedPrecondition."""
    for slot in range(slots_max):
        try:
            return hold_index(parent / str(slot))
        except FailedPrecondition as error:
            if "pid" not in error.metadata:
                raise
    raise FailedPrecondition(
        f"All {slots_max} index directories in {parent} are held by other nodes. Give this node "
        "one of its own: RAGMESH_INDEX__DIRECTORY.",
        metadata={"path": str(parent), "slots_max": slots_max},
    )


def _holder(lock: int) -> tuple[int, float] | None:
    try:
        held = json.loads(os.pread(lock, 4096, 0))
        return int(held["pid"]), float(held["started_at_s"])
    except (ValueError, KeyError, TypeError):
        return None  # taken a moment ago, not described yet


def _held_by(root: Path, holder: tuple[int, float] | None) -> FailedPrecondition:
    pid, since_s = holder or (0, time.time())
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since_s))
    return FailedPrecondition(
        f"The index directory {root} is held by "
        + (f"process {pid} since {since}" if pid else "a process that has just taken it")
        + ". Each node needs its own: set RAGMESH_INDEX__DIRECTORY, or leave it out.",
        metadata={"path": str(root), "pid": pid, "since": since},
    )
