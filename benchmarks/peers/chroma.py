# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "chromadb==1.5.9",
#     "numpy==2.4.6",
# ]
# ///
"""Chroma's server (`chroma run`, Rust) on a directory of the run's, and its Python HTTP client in
this process. The graph has ragmesh's settings."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.searching import K, Numbers, Range, serve_searches

START_TIMEOUT_S = 60.0
_LAUNCH = Path(__file__).parents[2] / "services" / "local" / "launch.py"


class Chroma:
    """One server and one collection. `given` has `folder`, `m`, `ef_construction` and `ef`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        os.environ["ANONYMIZED_TELEMETRY"] = "False"
        import chromadb  # type: ignore[import-not-found]

        port = _free_port()
        server = _start(given["folder"], port)
        self._client: Any = _connected(chromadb, port, server)
        self._collection = self._client.create_collection(
            "vectors",
            embedding_function=None,
            configuration={
                "hnsw": {
                    "space": "cosine",
                    "max_neighbors": given["m"],
                    "ef_construction": given["ef_construction"],
                    "ef_search": given["ef"],
                }
            },
        )

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        """In the largest batches that the server takes; a first query ends the indexing."""
        step = min(self._client.get_max_batch_size(), 2_000)
        for start in range(0, len(points), step):
            rows = range(start, min(start + step, len(points)))
            payloads = [{name: float(of[row]) for name, of in numbers.items()} for row in rows]
            self._collection.add(
                ids=[str(row) for row in rows],
                embeddings=points[rows.start : rows.stop],
                metadatas=payloads if numbers else None,
            )
        self.search(points[0], None)

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        """`query` with payloads and distances."""
        where = None
        if within is not None:
            field, gte, lt = within
            where = {"$and": [{field: {"$gte": gte}}, {field: {"$lt": lt}}]}
        found = self._collection.query(
            query_embeddings=[vector],
            n_results=K,
            where=where,
            include=["metadatas", "distances"],
        )
        return [int(row) for row in found["ids"][0]]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _start(folder: str, port: int) -> subprocess.Popen[bytes]:
    """Tied to this process's life, whichever way that ends."""
    tie = [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), str(int(signal.SIGKILL))]
    chroma = Path(sys.executable).with_name("chroma")
    return subprocess.Popen(
        [
            *(*tie, "-1", "-1", str(chroma), "run"),
            *("--path", folder, "--host", "127.0.0.1", "--port", str(port)),
        ],
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        stderr=sys.stderr,
    )


def _connected(chromadb: Any, port: int, server: subprocess.Popen[bytes]) -> Any:
    end_s = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(Exception):  # whatever it raises while nobody listens
            client = chromadb.HttpClient(host="127.0.0.1", port=port)
            client.heartbeat()
            return client
        if server.poll() is not None or time.monotonic() > end_s:
            raise RuntimeError(f"chroma run does not answer; it ended with {server.poll()}")
        time.sleep(0.1)


if __name__ == "__main__":
    serve_searches(Chroma, ("chromadb",))
