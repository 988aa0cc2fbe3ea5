"""A million vectors: built, searched, restarted; memory beside what vectors and links must take."""

from __future__ import annotations

import time

import numpy as np

from benchmarks import requests
from benchmarks.bench import Bench
from benchmarks.metrics import overlap
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


def run(bench: Bench) -> SuiteReport:
    """Memory is counted over the node's before it had points. Peaks are of the node and its
    builders together, ids taken off; there is no payload."""
    count = bench.options.points or (50_000 if bench.quick else 1_000_000)
    made = Synthetic(count, seed=6)
    queries = made.queries(QUERIES)
    bench.say(f"searching {count:,} vectors exactly")
    exact = made.exact(queries, K)
    with staged() as stage:
        base = taken(stage.pid)
        stage.client.create_collection(COLLECTION, dimensions=made.dimensions)
        begin_s = time.perf_counter()
        with MemoryWatch(stage.pid) as watch:
            written_s = _write(bench, stage, made)
            bench.say("waiting until the index has settled")
            stats, settled_at_s = until_settled(
                stage.client, COLLECTION, stage.pid, timeout_s=7_200
            )
        settled_s = settled_at_s - begin_s
        bench.say("searching")
        found = [
            [
                int(hit.point.id)
                for hit in stage.client.search_collection(
                    COLLECTION, vector=row, limit=K, ids_only=True
                ).hits
            ]
            for row in queries
        ]
        seconds = 5.0 if bench.quick else 30.0
        with searching(stage.address, COLLECTION, queries, seconds) as searches:
            searched = searches.wait().check()
        rest = taken(stage.pid)
        disk_mib = stage.mesh.index_bytes() / 2**20
        bench.say("stopping the node and starting it again")
        first = requests.search_request(COLLECTION, queries[0], ids_only=True)
        first.min_watermark = stats.watermark
        restart_s = stage.restart_s(first, [str(row) for row in found[0]])
    least = least_bytes(count, made.dimensions)
    ids = ids_bytes(count)
    peak_ratio, rest_ratio = (over(one, base, ids, least) for one in (watch.peak, rest))
    recall = overlap(found, exact)
    return SuiteReport(
        suite="scale",
        setting={"million": f"{count:,} x {made.dimensions}, 100 to a cluster, no payload, M {M}"},
        figures=[
            Figure("million: written in", written_s, "s", f"{count / written_s:,.0f} points/s"),
            Figure("million: settled after", settled_s, "s", "since the first write"),
            Figure("million: segments", float(stats.segments), ""),
            Figure("million: buffered points", float(stats.buffered_points), ""),
            Figure("million: builders seen", float(len(watch.builders_seen)), "", "processes"),
            Figure("million: vectors and links", least / 2**20, "MiB", "what they must take"),
            Figure("million: ids", ids / 2**20, "MiB", "characters and 16 bytes each; left out"),
            Figure("million: payload", 0.0, "MiB", "none"),
            Figure("million: node without points", base.pss_kib / 1024, "MiB", "PSS; left out"),
            Figure(
                "million: most while built",
                watch.peak.pss_kib / 1024,
                "MiB",
                f"PSS, {watch.peak.builders_pss_kib / 1024:,.0f} of it in builders",
            ),
            Figure("million: at rest, after searches", rest.pss_kib / 1024, "MiB", "PSS"),
            Figure("million: index on disk", disk_mib, "MiB"),
            Figure("million: recall@10", recall, "", f"{len(queries)} queries"),
            Figure("million: a search, p50", searched.percentile_ms(50), "ms", "40 Poisson/s"),
            Figure("million: … p99", searched.percentile_ms(99), "ms", "from when it was due"),
            Figure("million: restart", restart_s, "s", "process start to the first right answer"),
        ],
        targets=[
            Target("scale_million_peak_memory_ratio", peak_ratio, "<=", 1.3),
            Target("scale_million_memory_ratio", rest_ratio, "<=", 1.3),
            Target("scale_million_search_p99_ms", searched.percentile_ms(99), "<=", 20),
        ],
    )


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
