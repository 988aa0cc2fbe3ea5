"""How a collection's costs grow with it: the time to write and to settle, memory, bytes on disk."""

from __future__ import annotations

import time

from ragmesh import HnswSettings

from benchmarks.bench import Bench, as_points
from benchmarks.data import clustered
from benchmarks.plots import exponent
from benchmarks.report import Curve, Figure, SuiteReport
from benchmarks.requests import SEARCH_EF
from benchmarks.settled import until_settled

SIZES = (5_000, 10_000, 30_000, 100_000)
QUICK_SIZES = (500, 2_000)
SEED = 31


def growth(bench: Bench) -> SuiteReport:
    """A collection for each size, one after the other; the fitted exponent is 1 where a cost is in
    proportion to the size."""
    rows: dict[str, list[tuple[float, float]]] = {
        "written, s": [],
        "settled, s": [],
        "index memory, MiB": [],
        "index on disk, MiB": [],
    }
    for size in QUICK_SIZES if bench.quick else SIZES:
        for name, value in _one(bench, size).items():
            rows[name].append((float(size), value))
    sizes = [f"{size:,}" for size in (QUICK_SIZES if bench.quick else SIZES)]
    return SuiteReport(
        suite="growth",
        setting={"points": f"{', '.join(sizes)} x 384, made, 100 to a cluster, seed {SEED}"},
        figures=[
            *(
                Figure(f"{name.partition(', ')[0]} at {size:,.0f}", value, name.rpartition(" ")[2])
                for name, points in rows.items()
                for size, value in points
            ),
            *(
                Figure(f"{name.partition(', ')[0]}: exponent", exponent(points), "of the size")
                for name, points in rows.items()
            ),
        ],
        curves=[
            Curve("growth", name.partition(", ")[0], name.rpartition(" ")[2], points)
            for name, points in rows.items()
        ],
    )


def _one(bench: Bench, size: int) -> dict[str, float]:
    bench.say(f"{size:,} points")
    data = clustered(size, 1, clusters=max(1, size // 100), seed=SEED)
    collection = f"growth-{size}"
    before = bench.running.index_bytes()
    bench.client.create_collection(
        collection, dimensions=data.points.shape[1], hnsw=HnswSettings(ef_search=SEARCH_EF)
    )
    begin_s = time.perf_counter()
    bench.client.upsert_points(collection, as_points(data.points))
    written_s = time.perf_counter() - begin_s
    bench.client.count_points(collection, timeout_s=120)
    stats, at_s = until_settled(bench.client, collection, bench.running.node_pid())
    return {
        "written, s": written_s,
        "settled, s": at_s - begin_s,
        "index memory, MiB": stats.memory_kib / 1024,
        "index on disk, MiB": (bench.running.index_bytes() - before) / 2**20,
    }
