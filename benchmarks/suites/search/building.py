"""Searches while segments are built, saved, loaded and swapped: a writer upserts at a steady rate,
and Poisson searches are timed from when they were due."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from benchmarks import requests
from benchmarks.bench import Bench
from benchmarks.data import Matrix, clustered
from benchmarks.pressure import Load, Outcome, Pressure
from benchmarks.processes import builders
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.stage import SEARCHES_PER_S, prepared, searching

COLLECTION = "growing"
POINTS_PER_S = 2_000
BATCH = 500
TAIL_S = 10.0
"""How long searches go on after the last write, while the last segments are built."""


@dataclass(slots=True)
class Swaps:
    """What was seen of the index: its segments, the most buffered points, builders by pid."""

    segments: list[int] = field(default_factory=list)
    buffered_most: int = 0
    builders: set[int] = field(default_factory=set)

    @property
    def changes(self) -> int:
        """How often the number of segments was another than before."""
        pairs = zip(self.segments, self.segments[1:], strict=False)
        return sum(before != after for before, after in pairs)


def run(bench: Bench) -> SuiteReport:
    """p50, p99 and the longest search; how many swaps were seen meanwhile."""
    count = 4_000 if bench.quick else 60_000
    bench.say(f"making {count:,} vectors to write")
    data = clustered(count, 400, clusters=count // 100, seed=1)
    bench.client.create_collection(COLLECTION, dimensions=data.points.shape[1])
    write_s = count / POINTS_PER_S
    bench.say(f"searching for {write_s + TAIL_S:.0f} s while {count:,} points are written")
    searched, written, swaps = measure(bench, COLLECTION, data.points, data.queries, write_s)
    return SuiteReport(
        suite="search",
        setting={
            "while built": f"{count:,} points at {POINTS_PER_S:,}/s in batches of {BATCH}, "
            f"{SEARCHES_PER_S:g} Poisson searches/s"
        },
        figures=[
            Figure("a search while segments are built, p50", searched.percentile_ms(50), "ms"),
            Figure("… the longest", searched.percentile_ms(100), "ms", f"of {searched.ok:,}"),
            Figure("an upsert meanwhile, p99", written.percentile_ms(99), "ms", f"{BATCH} points"),
            Figure("changes of the segments", float(swaps.changes), "", "seen twice a second"),
            Figure("builders seen", float(len(swaps.builders)), "", "processes"),
            Figure("most points in the buffer", float(swaps.buffered_most), "", ""),
        ],
        targets=[
            Target("search_p99_while_built_ms", searched.percentile_ms(99)),
        ],
    )


def measure(
    bench: Bench, collection: str, points: Matrix, queries: Matrix, write_s: float
) -> tuple[Outcome, Outcome, Swaps]:
    """Writes all points evenly over `write_s`, searching until some time after; both outcomes,
    and what was seen of the index."""
    swaps = Swaps()
    with (
        prepared(requests.upserts(collection, points, batch=BATCH)) as upserts,
        searching(bench.mesh.nodes[0], collection, queries, write_s + TAIL_S) as searches,
    ):
        due_s = [i * write_s * BATCH / len(points) for i in range(-(-len(points) // BATCH))]
        load = Load(bench.mesh.nodes[0], requests.UPSERT, str(upserts), arrivals_s=due_s)
        with Pressure(load) as writer:
            while searches.running():
                _look(bench, collection, swaps)
                time.sleep(0.5)
            written = writer.wait().check()
        return searches.wait().check(), written, swaps


def _look(bench: Bench, collection: str, swaps: Swaps) -> None:
    stats = bench.client.get_collection_stats(collection)
    swaps.segments.append(stats.segments)
    swaps.buffered_most = max(swaps.buffered_most, stats.buffered_points)
    swaps.builders.update(one.pid for one in builders(bench.running.node_pid()))
