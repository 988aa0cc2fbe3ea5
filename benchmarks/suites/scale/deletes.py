"""Half of a collection deleted and compacted, beside a fresh index of what is left."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np

from benchmarks.bench import Bench
from benchmarks.data import Matrix
from benchmarks.processes import rss_kib
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.settled import until_settled
from benchmarks.stage import Stage, staged
from benchmarks.synthetic import Synthetic

COLLECTION = "halved"
QUERIES = 200


@dataclass(frozen=True, slots=True)
class Held:
    """Resident memory of the node over that of the node before it had points, in MiB, after the
    same searches; its whole, and what lies on disk beside PostgreSQL."""

    index_mib: float
    node_mib: float
    disk_mib: float
    tombstones: int


def run(bench: Bench) -> SuiteReport:
    """Resident memory of both, over that of their nodes before they had points."""
    count = 4_000 if bench.quick else 200_000
    made = Synthetic(count, seed=3)
    points = _rows(made)
    queries = made.queries(QUERIES)
    with staged() as stage:
        base_mib = _node_mib(stage)
        _write(bench, stage, points)
        before = _held(stage, queries, base_mib)
        bench.say(f"deleting {count // 2:,} points")
        stage.client.delete_points(COLLECTION, (str(n) for n in range(0, count, 2)))
        compacted = _compact(bench, stage)
        after = _held(stage, queries, base_mib)
    with staged() as stage:
        base_mib = _node_mib(stage)
        _write(bench, stage, np.ascontiguousarray(points[1::2]))
        fresh = _held(stage, queries, base_mib)
    return SuiteReport(
        suite="scale",
        setting={"deletes": f"{count:,} points, every second deleted; {compacted}"},
        comparisons=[
            _beside("resident memory of the index", after.index_mib, fresh.index_mib),
            _beside("resident memory of the node", after.node_mib, fresh.node_mib),
            _beside("index on disk", after.disk_mib, fresh.disk_mib),
        ],
        figures=[
            Figure("index before the deletes", before.index_mib, "MiB", "resident"),
            Figure("tombstones left", float(after.tombstones), ""),
        ],
        targets=[
            Target(
                "scale_compacted_over_fresh_rss",
                after.index_mib / fresh.index_mib if fresh.index_mib > 0 else float("nan"),
            )
        ],
    )


def _rows(made: Synthetic) -> Matrix:
    return np.concatenate([rows for _, rows in made.steps()])


def _node_mib(stage: Stage) -> float:
    return rss_kib(stage.pid) / 1024


def _write(bench: Bench, stage: Stage, points: Matrix) -> None:
    bench.say(f"writing {len(points):,} points")
    stage.client.create_collection(COLLECTION, dimensions=points.shape[1])
    stage.write(COLLECTION, points)
    until_settled(stage.client, COLLECTION, stage.pid, timeout_s=1_800)


def _compact(bench: Bench, stage: Stage) -> str:
    """On request, where the SDK can ask; else what the node does by itself."""
    compact = getattr(stage.client, "compact_collection", None)
    said = "not compacted on request: the SDK cannot ask for it"
    if compact is not None:
        bench.say("compacting")
        takes_time = "timeout_s" in inspect.signature(compact).parameters
        receipt = compact(COLLECTION, timeout_s=1_800) if takes_time else compact(COLLECTION)
        said = f"compacted on request: {receipt}"
    until_settled(stage.client, COLLECTION, stage.pid, timeout_s=600)
    return said


def _held(stage: Stage, queries: Matrix, base_mib: float) -> Held:
    """After searches, which touch what is mapped: a compaction compares by exact ones."""
    for exact in (False, True):
        for row in queries:
            stage.client.search_collection(COLLECTION, vector=row, ids_only=True, exact=exact)
    stats = stage.client.get_collection_stats(COLLECTION)
    node_mib = _node_mib(stage)
    return Held(node_mib - base_mib, node_mib, stage.mesh.index_bytes() / 2**20, stats.tombstones)


def _beside(name: str, ours: float, fresh: float) -> Comparison:
    return Comparison(
        name, Figure("half deleted", ours, "MiB"), Figure("a fresh index", fresh, "MiB")
    )
