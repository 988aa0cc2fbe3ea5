"""The mesh that suites measure: all parts in processes of their own, on free ports.

Its supervisor runs on an event loop in a thread here, and does next to nothing while a suite runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from services.config import GatewaySettings, GenerationSettings, NodeSettings, Settings
from services.local.mesh import Addresses, LocalMesh

T = TypeVar("T")

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0


class RunningMesh:
    """A mesh of one node, and the node's process. Call from any thread but the mesh's own."""

    def __init__(self, mesh: LocalMesh, loop: asyncio.AbstractEventLoop) -> None:
        self._mesh = mesh
        self._loop = loop

    @property
    def addresses(self) -> Addresses:
        """They stay while the node comes and goes."""
        return self._mesh.addresses

    def index_bytes(self) -> int:
        """What the data directory holds on disk besides PostgreSQL, Redis, models and logs."""
        others = ("postgres", "redis", "models", "logs", "run")
        return sum(
            _disk_bytes(room) for room in self._mesh.data_dir.iterdir() if room.name not in others
        )

    def node_pid(self) -> int:
        """The node's process; 0 while there is none."""

        async def find() -> int:
            states = {state.name: state.pid for state in self._mesh.supervisor.states()}
            return states[self._node]

        return self._run(find())

    def pids(self) -> list[int]:
        """Of all parts that run now: nodes, gateway, PostgreSQL and Redis."""

        async def find() -> list[int]:
            return [state.pid for state in self._mesh.supervisor.states() if state.pid]

        return self._run(find())

    def stop_node(self) -> None:
        """Drains it; returns when it has ended."""
        self._run(self._mesh.supervisor.stop_part(self._node))

    def start_node(self) -> None:
        """Returns when it says that it is ready."""
        self._run(self._mesh.supervisor.start_part(self._node))

    def kill_node(self) -> None:
        """As a crash would; the mesh starts the next one by itself."""
        os.kill(self.node_pid(), signal.SIGKILL)

    @property
    def _node(self) -> str:
        return self._mesh.node_names[0]

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_TIMEOUT_S)


def _disk_bytes(path: Path) -> int:
    """Blocks taken by a file, or by all files below a directory; what goes meanwhile is nothing."""
    total = 0
    for one in (path, *path.rglob("*")):
        with contextlib.suppress(FileNotFoundError):
            total += one.lstat().st_blocks * 512
    return total


@contextmanager
def running_mesh(
    services: Sequence[str] = (),
    nodes: Sequence[Sequence[str]] = (),
    generation: GenerationSettings | None = None,
) -> Iterator[RunningMesh]:
    """A mesh of one node with these services, or all, and a gateway, in a directory that goes away;
    or of several `nodes`, of which the first one is the one to measure. `generation` names further
    models that write answers.

    Raises what `LocalMesh.start` raises.
    """
    loop = asyncio.new_event_loop()
    # The parts are tied to the life of the thread that starts them, so it outlives them all.
    thread = threading.Thread(target=loop.run_forever, name="mesh", daemon=True)
    thread.start()
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        mesh = LocalMesh(
            Settings(
                data_dir=Path(folder) / "data",
                node=NodeSettings(listen="127.0.0.1:0"),
                gateway=GatewaySettings(listen="127.0.0.1:0"),
                generation=generation or GenerationSettings(),
            ),
            nodes=nodes or ([services] if services else None),
        )
        try:
            asyncio.run_coroutine_threadsafe(mesh.start(), loop).result(START_TIMEOUT_S)
            yield RunningMesh(mesh, loop)
        finally:
            asyncio.run_coroutine_threadsafe(mesh.stop(), loop).result(STOP_TIMEOUT_S)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class HandlerTime:
    """The time that a node spent in one RPC's handler, from its metrics, since this was made."""

    def __init__(self, metrics_address: str, rpc: str) -> None:
        self._url = f"http://{metrics_address}/metrics"
        self._rpc = rpc
        self._before = self._read()

    def mean_ms(self) -> float:
        """Mean over the calls since; NaN if there was none."""
        seconds, calls, _ = self._since()
        return seconds / calls * 1000 if calls else float("nan")

    def calls_ok(self) -> int:
        """How many calls since then the node answered with OK."""
        return int(self._since()[2])

    def _since(self) -> tuple[float, float, float]:
        now = self._read()
        return (
            now[0] - self._before[0],
            now[1] - self._before[1],
            now[2] - self._before[2],
        )

    def _read(self) -> tuple[float, float, float]:
        with urlopen(self._url, timeout=5) as answer:
            text = answer.read().decode()
        totals = {"sum": 0.0, "count": 0.0}
        ok = 0.0
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                part = sample.name.removeprefix("ragmesh_rpc_duration_seconds_")
                if part in totals and sample.labels.get("rpc") == self._rpc:
                    totals[part] += sample.value
                    if part == "count" and sample.labels.get("code") == "OK":
                        ok += sample.value
        return totals["sum"], totals["count"], ok
