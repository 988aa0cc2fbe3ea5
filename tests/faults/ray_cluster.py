"""A Ray cluster as an operator has it, on this machine: a head and a worker, each with a raylet,
both on loopback and behind a token; and PostgreSQL and Redis that both reach."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

from services.config import StoreSettings
from services.local.directory import hold
from services.local.ports import choose_ports
from services.local.postgres import embedded_postgres
from services.local.redis import redis_part, redis_url
from services.local.supervisor import Supervisor

_HOST = "127.0.0.2"  # loopback, and not what Ray takes for it and replaces
_TRIES = 3
_STOPPED_S = 20.0


class RayCluster:
    """Started and killed by the tests, as often as they like, at the same address."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self.token = root / "token"
        self.token.write_text("a" * 64)
        self._root = root
        self._scratch = Path(f"/tmp/ray-of-tests-{os.getpid()}")  # a short path, for sockets
        self._port = choose_ports({"ray": 0}, root / "ports.json")["ray"]
        self._running: list[subprocess.Popen[bytes]] = []

    @property
    def address(self) -> str:
        """`host:port` of the head."""
        return f"{_HOST}:{self._port}"

    def start(self, *, worker: bool = True) -> None:
        """A head and a worker of two CPUs each, or the head alone; returns when they are there."""
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._start(
            *("--head", f"--port={self._port}", f"--temp-dir={self._scratch}"),
            *("--include-dashboard=false", "--no-monitor"),
        )
        if worker:
            self._start(f"--address={self.address}")

    def kill(self) -> None:
        """Ends the head as a lost machine does, with all that ran below it; the worker is left."""
        _kill(self._running.pop(0))

    def stop(self) -> None:
        """Ends what runs."""
        for process in self._running:
            _kill(process)
        self._running.clear()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def keepers(self) -> list[psutil.Process]:
        """Ray's workers that keep nodes, below the head and below the worker."""
        roots = [psutil.Process(process.pid) for process in self._running]
        below = [process for root in roots for process in root.children(recursive=True)]
        return [process for process in below if process.name().startswith("ray::ServeRepl")]

    def _start(self, *words: str) -> None:
        """A raylet, in a few tries: Ray gives up after 30 s, which a busy machine may need."""
        log_file = self._root / f"{len(self._running)}.log"
        for _ in range(_TRIES):
            process = self._tried(log_file, words)
            while process.poll() is None:
                if b"Ray runtime started" in log_file.read_bytes():
                    self._running.append(process)
                    return
                time.sleep(0.1)
        raise AssertionError(log_file.read_text())

    def _tried(self, log_file: Path, words: tuple[str, ...]) -> subprocess.Popen[bytes]:
        inherited = {name: v for name, v in os.environ.items() if not name.startswith("RAY")}
        with log_file.open("wb") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--block"),
                    *(f"--node-ip-address={_HOST}", "--num-cpus=2"),
                    "--object-store-memory=100000000",
                    *("--min-worker-port=0", "--max-worker-port=0"),
                    *("--dashboard-agent-listen-port=0", "--disable-usage-stats", *words),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **inherited,
                    "RAY_AUTH_MODE": "token",
                    "RAY_worker_niceness": "0",  # as `up --ray` starts it
                    "RAY_AUTH_TOKEN_PATH": str(self.token),
                },
            )


@asynccontextmanager
async def stores(root: Path) -> AsyncIterator[StoreSettings]:
    """PostgreSQL and Redis that are not those of the mesh."""
    with hold(root) as held:
        postgres = embedded_postgres(held.directory)
        supervisor = Supervisor([postgres.part(), redis_part(held.directory)])
        await supervisor.start()
        try:
            yield StoreSettings.model_validate(
                {"postgres_url": postgres.url, "redis_url": redis_url(held.directory)}
            )
        finally:
            await supervisor.stop()


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        below = [*root.children(recursive=True), root]
        for one in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(below, _STOPPED_S)
    process.wait(_STOPPED_S)
