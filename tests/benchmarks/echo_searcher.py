"""A searcher whose answers say what it was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.searching import Numbers, Range, serve_searches


class EchoSearcher:
    """Finds the rows that lie in the range, the nearest first, by looking at all of them."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._k: int = given["k"]
        self._points = np.empty((0, 0), np.float32)
        self._numbers: dict[str, NDArray[np.float64]] = {}

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        self._points, self._numbers = points, dict(numbers)

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        order = np.argsort(-(self._points @ vector), kind="stable")
        if within is not None:
            field, gte, lt = within
            values = self._numbers[field][order]
            order = order[(values >= gte) & (values < lt)]
        rows: list[int] = order[: self._k].tolist()
        return rows


if __name__ == "__main__":
    serve_searches(EchoSearcher, ())
