"""When an index has come to rest: nothing is applied, sealed, built or merged any more."""

from __future__ import annotations

import time

from ragmesh import Client, CollectionStats

from benchmarks.processes import builders, busy_cores

SETTLE_S = 180.0
_STEADY_S = 2.0
_IDLE_CORES = 0.25


def until_settled(
    client: Client, collection: str, node_pid: int, *, timeout_s: float = SETTLE_S
) -> tuple[CollectionStats, float]:
    """The figures of an index that has applied every commit and stayed as it is for 2 s, while its
    node had no builder and little to do; and since when (`time.perf_counter`). At the timeout,
    what it is then."""
    end_s = time.perf_counter() + timeout_s
    seen: tuple[int, ...] = ()
    since_s = time.perf_counter()
    while True:
        stats = client.get_collection_stats(collection)
        shape = (stats.segments, stats.buffered_points, stats.tombstones, stats.lag_commits)
        busy = bool(builders(node_pid)) or busy_cores(node_pid) > _IDLE_CORES
        now_s = time.perf_counter()
        if busy or shape != seen or stats.lag_commits:
            seen, since_s = shape, now_s
        elif now_s - since_s >= _STEADY_S:
            return stats, since_s
        if now_s >= end_s:
            return stats, now_s
