"""The mesh that suites measure: all parts in processes of their own, on free ports.

Its supervisor runs on an event loop in a thread here, and does next to nothing while a suite runs.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from services.config import GatewaySettings, NodeSettings, Settings
from services.local.mesh import Addresses, LocalMesh

START_TIMEOUT_S = 180.0
STOP_TIMEOUT_S = 60.0


@contextmanager
def running_mesh() -> Iterator[Addresses]:
    """A mesh of one node with all services and a gateway, in a directory that goes away.

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
            )
        )
        try:
            asyncio.run_coroutine_threadsafe(mesh.start(), loop).result(START_TIMEOUT_S)
            yield mesh.addresses
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
        seconds, calls = (now - then for now, then in zip(self._read(), self._before, strict=True))
        return seconds / calls * 1000 if calls else float("nan")

    def _read(self) -> tuple[float, float]:
        with urlopen(self._url, timeout=5) as answer:
            text = answer.read().decode()
        totals = {"sum": 0.0, "count": 0.0}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                part = sample.name.removeprefix("ragmesh_rpc_duration_seconds_")
                if part in totals and sample.labels.get("rpc") == self._rpc:
                    totals[part] += sample.value
        return totals["sum"], totals["count"]
