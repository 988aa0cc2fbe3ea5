"""What a peer that searches does when it is told to: one loop for all, so that only what is
between two readings of the clock differs.

    {"fill": points.npy, "numbers": numbers.npz}  -> {"seconds": s}
    {"queries": queries.npy}                      -> {}
    {"search": [query, ...], "ranges": [[field, gte, lt] | null, ...]}
        -> {"latencies_ms": [...], "found": [[row, ...], ...]}

A latency is that of the client's own call, with what it makes of the query and of the answer. The
arrays are in files of numpy. Points are known by the number of their row.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.wire import Answer, Message, serve_answers

K = 10
Range = tuple[str, float, float]
"""A field, from (included) and to (left out)."""
Numbers = Mapping[str, NDArray[np.float64]]


class Searcher(Protocol):
    """A client of one kind."""

    def fill(self, points: NDArray[np.float32], numbers: Numbers) -> None:
        """Writes points, each with its numbers as its payload, and waits for the index."""

    def search(self, vector: NDArray[np.float32], within: Range | None) -> Sequence[int]:
        """The rows of the 10 nearest, with their payloads, as the client's users get them."""


def serve_searches(load: Callable[[Mapping[str, Any]], Searcher], packages: Sequence[str]) -> None:
    """Makes the searcher of what `argv[1]` says, and does what it is told until the input ends."""

    def started(given: Mapping[str, Any]) -> Answer:
        return answering(load(given))

    serve_answers(started, packages)


def answering(searcher: Searcher) -> Answer:
    """A line's JSON to its answer."""
    queries: list[NDArray[np.float32]] = []

    def answer(asked: Message) -> Message:
        if "fill" in asked:
            points = np.load(asked["fill"])
            with np.load(asked["numbers"]) as numbers:
                begin_s = time.perf_counter()
                searcher.fill(points, dict(numbers))
                return {"seconds": time.perf_counter() - begin_s}
        if "queries" in asked:
            queries[:] = list(np.load(asked["queries"]))
            return {}
        return _searched(searcher, queries, asked["search"], asked["ranges"])

    return answer


def _searched(
    searcher: Searcher,
    queries: Sequence[NDArray[np.float32]],
    numbers: Sequence[int],
    ranges: Sequence[Range | None],
) -> Message:
    latencies_ms, found = [], []
    for number, within in zip(numbers, ranges, strict=True):
        query = queries[number]
        begin_s = time.perf_counter()
        rows = searcher.search(query, within)
        latencies_ms.append((time.perf_counter() - begin_s) * 1000)
        found.append([int(row) for row in rows])
    return {"latencies_ms": latencies_ms, "found": found}
