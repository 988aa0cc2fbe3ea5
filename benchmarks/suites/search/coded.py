"""The same vectors kept as int8, for who chooses that: what one core serves, at which recall."""

from __future__ import annotations

from ragmesh import HnswSettings

from benchmarks.bench import Bench, as_points
from benchmarks.metrics import recall_by_score
from benchmarks.report import Figure, SuiteReport
from benchmarks.requests import SEARCH_EF, K
from benchmarks.settled import until_settled
from benchmarks.suites.search import rate

COLLECTION = "coded"


def run(bench: Bench) -> SuiteReport:
    """Rates as those of the collection in float32, and recall against the same exact search."""
    data = bench.vectors.vectors
    bench.say(f"upserting {len(data.points):,} points to be kept as int8")
    bench.client.create_collection(
        COLLECTION,
        dimensions=data.points.shape[1],
        hnsw=HnswSettings(ef_search=SEARCH_EF),
        vector_storage="int8",
    )
    bench.client.upsert_points(COLLECTION, as_points(data.points))
    stats, _ = until_settled(bench.client, COLLECTION, bench.running.node_pid())
    found = [
        [
            int(hit.point.id)
            for hit in bench.client.search_collection(
                COLLECTION, vector=row, limit=K, ids_only=True
            ).hits
        ]
        for row in data.queries
    ]
    recall = recall_by_score(found, list(data.exact), data.points, data.queries)
    single, batched = rate.rates(bench, COLLECTION)
    memory_mib = stats.memory_kib / 1024
    return SuiteReport(
        suite="search",
        setting={},
        figures=[
            Figure("as int8: recall@10", recall, "", f"the same vectors, ef {SEARCH_EF}"),
            Figure("as int8: index memory", memory_mib, "MiB", "the node's estimate"),
            Figure("as int8: requests of one core", single.per_s, "/s", "beside that in float32"),
            Figure(
                "as int8: queries in batches of one core",
                float("nan") if batched is None else batched.per_s,
                "/s",
                "beside that in float32",
            ),
        ],
    )
