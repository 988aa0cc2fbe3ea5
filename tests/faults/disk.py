"""A disk that fails: a shim in C (`failing_disk.c`), compiled here, and programs that run on it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class FailingDisk:
    """Files in and below `directory`, seen by one process at a time. Its `sync`-th sync fails
    with EIO (0: none does); it may write `bytes_max` bytes until ENOSPC (None: all it wants)."""

    shim: Path
    directory: Path
    sync: int = 0
    bytes_max: int | None = None

    def environment(self) -> dict[str, str]:
        """What a process is given, added to ours. Each counts for itself."""
        given = {
            **os.environ,
            "LD_PRELOAD": str(self.shim),
            "FAILING_DISK_DIRECTORY": str(self.directory.resolve()),
        }
        if self.sync:
            given["FAILING_DISK_SYNC"] = str(self.sync)
        if self.bytes_max is not None:
            given["FAILING_DISK_BYTES"] = str(self.bytes_max)
        return given

    def run(self, code: str, *arguments: str, timeout_s: float = 60) -> str:
        """A Python program's standard output. Raises AssertionError with its errors where it
        fails."""
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def compile_shim(folder: Path) -> Path:
    """The shim as a library in `folder`. Raises subprocess.CalledProcessError."""
    library = folder / "failing_disk.so"
    subprocess.run(
        [
            *("cc", "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror"),
            *("-o", str(library), str(SOURCE), "-ldl"),
        ],
        check=True,
    )
    return library
