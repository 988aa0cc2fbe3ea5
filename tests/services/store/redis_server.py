"""A Redis of a test's own, which it may stop and kill."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.local.binaries import find_redis


@contextmanager
def running_redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Its URL and its process, until the context ends."""
    with tempfile.TemporaryDirectory() as directory:
        socket = Path(directory) / "r.sock"
        process = subprocess.Popen(
            [
                *(str(find_redis()), "--port", "0", "--unixsocket", str(socket)),
                *("--save", "", "--appendonly", "no", "--dir", directory),
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            while not socket.exists():
                assert process.poll() is None
                time.sleep(0.005)
            yield f"unix://{socket}?db=0", process
        finally:
            process.kill()
            process.wait()
