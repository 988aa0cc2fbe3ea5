"""ragmesh's own client, in a process that does nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from ragmesh import Client, Field, Point

from benchmarks.peers.searching import K, Numbers, Range, serve_searches


class Sdk:
    """On the collection of a running mesh. `filled` by the run, or by `fill`."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._client = Client(given["address"], timeout_s=60)
        self._collection: str = given["collection"]

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        """Upserts into the collection, which exists, and waits until a search sees all."""
        self._client.upsert_points(
            self._collection,
            (
                Point(str(row), one, payload={name: float(of[row]) for name, of in numbers.items()})
                for row, one in enumerate(points)
            ),
        )
        self._client.count_points(self._collection)

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        """SearchCollection, whole hits."""
        condition = None
        if within is not None:
            field, gte, lt = within
            condition = Field(field).between(gte=gte, lt=lt)
        found = self._client.search_collection(
            self._collection, vector=vector, filter=condition, limit=K
        )
        return [int(hit.point.id) for hit in found.hits]


if __name__ == "__main__":
    serve_searches(Sdk, ("ragmesh",))
