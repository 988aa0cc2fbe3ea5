"""A million vectors: built, searched, restarted; memory beside what vectors and links must take."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from ragmesh import CollectionStats

from benchmarks import requests
from benchmarks.bench import Bench
from benchmarks.data import Matrix
from benchmarks.metrics import overlap
from benchmarks.pressure import Outcome
from benchmarks.processes import MemoryWatch, Taken, taken
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.requests import K, M
from benchmarks.settled import until_settled
from benchmarks.stage import Stage, searching, staged
from benchmarks.synthetic import Synthetic

COLLECTION = "million"
QUERIES = 400
_STEPS_OF_A_FILE = 5
_ID_OVERHEAD_BYTES = 16
"""Of an id, beside its characters: where it ends, and the commit that wrote it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`base` is the node before it had points, `peak` the most while it built, `rest` after
    searches. Seconds since the first write, or since the process began."""

    base: Taken
    peak: Taken
    rest: Taken
    builders: int
    stats: CollectionStats
    written_s: float
    settled_s: float
    restart_s: float
    recall: float
    searched: Outcome
    disk_mib: float


def run(bench: Bench) -> SuiteReport:
    """Memory is counted over the node's before it had points. Peaks are of the node and its
    builders together, ids taken off; there is no payload."""
    count = bench.options.points or (50_000 if bench.quick else 1_000_000)
    made = Synthetic(count, seed=6)
    queries = made.queries(QUERIES)
    bench.say(f"searching {count:,} vectors exactly")
    exact = made.exact(queries, K)
    with staged() as stage:
        return _report(made, _measure(bench, stage, made, queries, exact))


def _measure(
    bench: Bench, stage: Stage, made: Synthetic, queries: Matrix, exact: NDArray[np.int64]
) -> Measured:
    base = taken(stage.pid)
    stage.client.create_collection(COLLECTION, dimensions=made.dimensions)
    begin_s = time.perf_counter()
    with MemoryWatch(stage.pid) as watch:
        written_s = _write(bench, stage, made)
        bench.say("waiting until the index has settled")
        stats, settled_at_s = until_settled(stage.client, COLLECTION, stage.pid, timeout_s=7_200)
    bench.say("searching")
    found = [_found(stage, row) for row in queries]
    seconds = 5.0 if bench.quick else 30.0
    with searching(stage.address, COLLECTION, queries, seconds) as searches:
        searched = searches.wait().check()
    rest, disk_mib = taken(stage.pid), stage.mesh.index_bytes() / 2**20
    bench.say("stopping the node and starting it again")
    first = requests.search_request(COLLECTION, queries[0], ids_only=True)
    first.min_watermark = stats.watermark
    return Measured(
        base=base,
        peak=watch.peak,
        rest=rest,
        builders=len(watch.builders_seen),
        stats=stats,
        written_s=written_s,
        settled_s=settled_at_s - begin_s,
        restart_s=stage.restart_s(first, [str(row) for row in found[0]]),
        recall=overlap(found, exact),
        searched=searched,
        disk_mib=disk_mib,
    )


def _report(made: Synthetic, of: Measured) -> SuiteReport:
    count = made.count
    least, ids = least_bytes(count, made.dimensions), ids_bytes(count)
    peak_ratio, rest_ratio = (over(one, of.base, ids, least) for one in (of.peak, of.rest))
    p50_ms, p99_ms = (of.searched.percentile_ms(percent) for percent in (50, 99))
    in_builders = f"PSS, {of.peak.builders_pss_kib / 1024:,.0f} of it in builders"
    figures = (
        ("written in", of.written_s, "s", f"{count / of.written_s:,.0f} points/s"),
        ("settled after", of.settled_s, "s", "since the first write"),
        ("segments", of.stats.segments, "", ""),
        ("buffered points", of.stats.buffered_points, "", ""),
        ("builders seen", of.builders, "", "processes"),
        ("vectors and links", least / 2**20, "MiB", "what they must take"),
        ("ids", ids / 2**20, "MiB", "characters and 16 bytes each; left out"),
        ("payload", 0.0, "MiB", "none"),
        ("node without points", of.base.pss_kib / 1024, "MiB", "PSS; left out"),
        ("most while built", of.peak.pss_kib / 1024, "MiB", in_builders),
        ("at rest, after searches", of.rest.pss_kib / 1024, "MiB", "PSS"),
        ("index on disk", of.disk_mib, "MiB", ""),
        ("recall@10", of.recall, "", f"{QUERIES} queries"),
        ("a search, p50", p50_ms, "ms", "40 Poisson searches/s"),
        ("… p99", p99_ms, "ms", "from when it was due"),
        ("restart", of.restart_s, "s", "process start to the first right answer"),
    )
    return SuiteReport(
        suite="scale",
        setting={"million": f"{count:,} x {made.dimensions}, 100 to a cluster, no payload, M {M}"},
        figures=[
            Figure(f"million: {name}", float(value), unit, note)
            for name, value, unit, note in figures
        ],
        targets=[
            Target("scale_million_peak_memory_ratio", peak_ratio),
            Target("scale_million_memory_ratio", rest_ratio),
            Target("scale_million_search_p99_ms", p99_ms),
        ],
    )


def _found(stage: Stage, query: NDArray[np.float32]) -> list[int]:
    found = stage.client.search_collection(COLLECTION, vector=query, limit=K, ids_only=True)
    return [int(hit.point.id) for hit in found.hits]


def least_bytes(count: int, dimensions: int, m: int = M) -> float:
    """Of vectors in float32 and an HNSW graph's links: 2 m numbers of 4 bytes and their count at
    the bottom, and m and their count on each of the levels above, of which a point is on
    1 / (m - 1) on average (each level holds an m-th of the one below)."""
    bottom, above = 4 * (2 * m + 1), 4 * (m + 1)
    return count * (4 * dimensions + bottom + above / (m - 1))


def ids_bytes(count: int) -> int:
    """Of ids that are the numbers 0 to count - 1."""
    characters, size = 0, 1
    while 10 ** (size - 1) < count or size == 1:
        lowest = 0 if size == 1 else 10 ** (size - 1)
        characters += size * (min(count, 10**size) - lowest)
        size += 1
    return characters + _ID_OVERHEAD_BYTES * count


def over(now: Taken, base: Taken, ids: int, least: float) -> float:
    """Memory over the node's own and its ids', to the least."""
    return ((now.pss_kib - base.pss_kib) * 1024 - ids) / least


def _write(bench: Bench, stage: Stage, made: Synthetic) -> float:
    """Seconds of writing alone; the rows are made between."""
    seconds, waiting, first = 0.0, [], 0
    for start, rows in made.steps():
        waiting.append(rows)
        last = start + len(rows) == made.count
        if len(waiting) == _STEPS_OF_A_FILE or last:
            together = np.concatenate(waiting)
            outcome, _ = stage.write(COLLECTION, together, first_id=first)
            seconds += outcome.elapsed_s
            first, waiting = first + len(together), []
            bench.say(f"{first:,} of {made.count:,} written")
    return seconds
