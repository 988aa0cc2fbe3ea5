# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy==2.4.6",
#     "qdrant-client==1.20.0",
# ]
# ///
"""Qdrant's server, which runs elsewhere (`--peer qdrant=URL`), and its Python client in this
process, over REST as the client does by itself. The graph has ragmesh's settings."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.searching import K, Numbers, Range, serve_searches
from benchmarks.peers.wire import ENDING

SETTLED_TIMEOUT_S = 600.0
_BATCH = 1_000


class Qdrant:
    """One collection, which goes away with the process. `given` has `url`, `dimensions`, `m`,
    `ef_construction` and `ef`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        from qdrant_client import QdrantClient, models  # type: ignore[import-not-found]

        self._models: Any = models
        self._client: Any = QdrantClient(url=given["url"], timeout=120)
        self._name = f"ragmesh-benchmark-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._params = models.SearchParams(hnsw_ef=given["ef"])
        self._client.create_collection(
            self._name,
            vectors_config=models.VectorParams(
                size=given["dimensions"], distance=models.Distance.COSINE
            ),
            hnsw_config=models.HnswConfigDiff(
                m=given["m"], ef_construct=given["ef_construction"], full_scan_threshold=1_000
            ),
            optimizers_config=models.OptimizersConfigDiff(
                default_segment_number=1, indexing_threshold=1_000
            ),
        )

        ENDING.callback(self._client.delete_collection, self._name)

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        """Upserts, and waits until the server calls the collection green."""
        models = self._models
        for name in numbers:
            self._client.create_payload_index(self._name, name, models.PayloadSchemaType.FLOAT)
        for start in range(0, len(points), _BATCH):
            rows = list(range(start, min(start + _BATCH, len(points))))
            payloads = [{name: float(of[row]) for name, of in numbers.items()} for row in rows]
            batch = models.Batch(ids=rows, vectors=points[rows].tolist(), payloads=payloads)
            self._client.upsert(self._name, batch, wait=True)
        end_s = time.monotonic() + SETTLED_TIMEOUT_S
        while self._client.get_collection(self._name).status != models.CollectionStatus.GREEN:
            if time.monotonic() > end_s:
                raise TimeoutError(f"not green within {SETTLED_TIMEOUT_S:.0f} s")
            time.sleep(0.2)

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        """`query_points` with payloads."""
        models = self._models
        condition = None
        if within is not None:
            field, gte, lt = within
            wanted = models.FieldCondition(key=field, range=models.Range(gte=gte, lt=lt))
            condition = models.Filter(must=[wanted])
        found = self._client.query_points(
            self._name,
            query=vector.tolist(),
            query_filter=condition,
            search_params=self._params,
            limit=K,
            with_payload=True,
        )
        return [int(point.id) for point in found.points]


if __name__ == "__main__":
    serve_searches(Qdrant, ("qdrant-client",))
