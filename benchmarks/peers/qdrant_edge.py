# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "numpy==2.4.6",
#     "qdrant-edge-py==0.9.0",
# ]
# ///
"""qdrant-edge: Qdrant's engine in process, without a server or a socket before it. The graph has
ragmesh's settings; every number of the payload has an index of floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.searching import K, Numbers, Range, serve_searches

_BATCH = 1_000


class QdrantEdge:
    """One shard on a directory of the run's. `given` has `folder`, `dimensions`, `m`,
    `ef_construction` and `ef`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        import qdrant_edge  # type: ignore[import-not-found]

        self._edge: Any = qdrant_edge
        self._shard: Any = qdrant_edge.EdgeShard.create(
            given["folder"],
            qdrant_edge.EdgeConfig(
                vectors=qdrant_edge.EdgeVectorParams(
                    size=given["dimensions"], distance=qdrant_edge.Distance.Cosine
                ),
                hnsw_config=qdrant_edge.HnswIndexConfig(
                    m=given["m"], ef_construct=given["ef_construction"], full_scan_threshold=1_000
                ),
                # One segment with a graph, as ragmesh's index is when it has settled.
                optimizers=qdrant_edge.EdgeOptimizersConfig(
                    default_segment_number=1, indexing_threshold=1_000
                ),
            ),
        )
        self._params = qdrant_edge.SearchParams(hnsw_ef=given["ef"])

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        """Upserts, indexes the payload, then builds the graph, which knows the payload's indexes
        only if they were there before it."""
        edge = self._edge
        for name in numbers:
            self._shard.update(
                edge.UpdateOperation.create_field_index(name, edge.PayloadSchemaType.Float)
            )
        for start in range(0, len(points), _BATCH):
            rows = range(start, min(start + _BATCH, len(points)))
            batch = [
                edge.Point(
                    row,
                    points[row].tolist(),
                    {name: float(of[row]) for name, of in numbers.items()},
                )
                for row in rows
            ]
            self._shard.update(edge.UpdateOperation.upsert_points(batch))
        self._shard.optimize()

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        """`query` with payloads."""
        edge = self._edge
        condition = None
        if within is not None:
            field, gte, lt = within
            wanted = edge.FieldCondition(field, range=edge.RangeFloat(gte=gte, lt=lt))
            condition = edge.Filter(must=[wanted])
        found = self._shard.query(
            edge.QueryRequest(
                limit=K,
                query=edge.Query.Nearest(vector.tolist()),
                filter=condition,
                with_payload=True,
                params=self._params,
            )
        )
        return [point.id for point in found]


if __name__ == "__main__":
    serve_searches(QdrantEdge, ("qdrant-edge-py",))
