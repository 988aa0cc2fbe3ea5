"""A whole embedded mesh in a process of its own, and what it said."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

UP = Path(__file__).with_name("up.py")
WAIT_S = 30.0


class Mesh:
    """A running `up.py` and what it said."""

    def __init__(self, root: Path, prefix: Sequence[str] = ()) -> None:
        self.root = root
        self.process = subprocess.Popen(
            [*prefix, sys.executable, str(UP), str(root)], stdout=subprocess.PIPE, text=True
        )
        self.said: list[dict[str, Any]] = []

    def wait_for(self, **wanted: object) -> dict[str, Any]:
        """Read on until a line has all these fields."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            fields: dict[str, Any] = json.loads(line)
            self.said.append(fields)
            if wanted.items() <= fields.items():
                return fields
        raise AssertionError(f"ended without {wanted}; it said {self.said}")

    def descendants(self) -> list[int]:
        return [p.pid for p in psutil.Process(self.process.pid).children(recursive=True)]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT_S) == 0, self.said

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(WAIT_S)


@contextmanager
def running_mesh(root: Path, prefix: Sequence[str] = ()) -> Iterator[Mesh]:
    """A mesh that is gone at the end, with its sockets."""
    mesh = Mesh(root, prefix)
    try:
        yield mesh
    finally:
        if mesh.process.poll() is None:
            mesh.kill()
        if mesh.process.stdout is not None:
            mesh.process.stdout.close()
        run = root / "run"
        if run.is_symlink():  # of a mesh that was killed, and so did not tidy up
            shutil.rmtree(run.resolve(), ignore_errors=True)


def gone(pids: Sequence[int], within_s: float) -> list[int]:
    """The processes that still run after so long; a zombie runs no more."""
    deadline_s = time.monotonic() + within_s
    alive = list(pids)
    while alive := [pid for pid in alive if runs(pid)]:
        if time.monotonic() > deadline_s:
            break
        time.sleep(0.02)
    return alive


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
