"""Ranking quality on SciFact through the running services: dense, lexical and hybrid."""

from __future__ import annotations

from ragmesh import Client, SearchMode

from benchmarks.bench import Bench
from benchmarks.data import RetrievalSet
from benchmarks.fused import COLLECTION, WRITERS
from benchmarks.metrics import Qrels, mean_ndcg, mean_recall
from benchmarks.report import Comparison, Figure, SuiteReport, Target

MODES: tuple[SearchMode, ...] = ("dense", "lexical", "hybrid")
PUBLISHED_DENSE = 0.6451
"""all-MiniLM-L6-v2 on SciFact's test queries: 0.64508 in the results of the MTEB paper
(github.com/embeddings-benchmark/mtebpaper, results/all-MiniLM-L6-v2/SciFact.json)."""
PUBLISHED_BM25 = 0.6789
"""BM25 over one field, Anserini's reproduction page for BEIR v1.0.0 SciFact (flat)."""
DEPTH = 100


def quality(bench: Bench) -> SuiteReport:
    """nDCG@10 and R@100 on test; train beside it, where settings are chosen."""
    client, data = bench.client, bench.scifact.data
    figures: list[Figure] = []
    scores: dict[tuple[str, str], float] = {}
    for split in ("test", "train"):
        qrels = data.qrels[split]
        bench.say(f"searching {len(qrels)} queries of {split}, three ways")
        for mode in MODES:
            run = search_all(client, data, qrels, mode)
            scores[split, mode] = mean_ndcg(run, qrels, 10)
            recall = mean_recall(run, qrels, DEPTH)
            figures += [
                Figure(f"{mode}, {split}, nDCG@10", scores[split, mode], ""),
                Figure(f"{mode}, {split}, R@100", recall, ""),
            ]
    rate = len(data.documents) / bench.scifact.upsert_s
    figures.append(Figure("upsert with embedding", rate, "abstracts/s", f"{WRITERS} callers"))
    return SuiteReport(
        suite="quality",
        setting={
            "abstracts": f"{len(data.documents):,}",
            "queries": f"{len(data.qrels['test'])} test, {len(data.qrels['train'])} train",
            "text": "title and abstract, cut at 256 tokens by the service",
            "fusion": "the default",
        },
        comparisons=[
            _beside(scores, "dense", "published (MTEB)", PUBLISHED_DENSE),
            _beside(scores, "lexical", "published BM25 (Anserini)", PUBLISHED_BM25),
            _beside(
                scores,
                "hybrid",
                "the better leg",
                max(scores["test", "dense"], scores["test", "lexical"]),
            ),
        ],
        figures=figures,
        targets=[
            Target(
                "quality_dense_ndcg10_off_published",
                abs(scores["test", "dense"] - PUBLISHED_DENSE),
                "<=",
                0.002,
            ),
            Target("quality_hybrid_ndcg10", scores["test", "hybrid"], ">=", 0.70),
        ],
    )


def search_all(
    client: Client, data: RetrievalSet, qrels: Qrels, mode: SearchMode
) -> dict[str, list[str]]:
    """The ids found for every judged query, the best first."""
    run = {}
    for query in qrels:
        found = client.search_collection(
            COLLECTION, data.queries[query], mode=mode, limit=DEPTH, ids_only=True
        )
        run[query] = [hit.point.id for hit in found.hits]
    return run


def _beside(scores: dict[tuple[str, str], float], mode: str, peer: str, value: float) -> Comparison:
    return Comparison(
        f"{mode}, nDCG@10 on test", Figure(mode, scores["test", mode], ""), Figure(peer, value, "")
    )
