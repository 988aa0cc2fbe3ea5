"""Ranking quality on SciFact through the running services: dense, lexical and hybrid."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from ragmesh import Client, Point, SearchMode

from benchmarks.bench import Bench
from benchmarks.data import RetrievalSet, Text, scifact
from benchmarks.metrics import Qrels, mean_ndcg, mean_recall
from benchmarks.report import Comparison, Figure, SuiteReport, Target

COLLECTION = "scifact"
MODES: tuple[SearchMode, ...] = ("dense", "lexical", "hybrid")
PUBLISHED_DENSE = 0.6451
"""all-MiniLM-L6-v2 on SciFact's test queries: 0.64508 in the results of the MTEB paper
(github.com/embeddings-benchmark/mtebpaper, results/all-MiniLM-L6-v2/SciFact.json)."""
PUBLISHED_BM25 = 0.6789
"""BM25 over one field, Anserini's reproduction page for BEIR v1.0.0 SciFact (flat)."""
DEPTH = 100
_BATCH, _WRITERS = 64, 2


def quality(bench: Bench) -> SuiteReport:
    """nDCG@10 and R@100 on test; train beside it, where settings are chosen."""
    data = scifact()
    if bench.quick:
        data = _slice(data, documents=300, queries=40)
    bench.say(f"upserting and embedding {len(data.documents):,} abstracts")
    client = bench.client
    client.create_collection(COLLECTION)
    begin_s = time.perf_counter()
    upsert(client, data.documents)
    embed_s = time.perf_counter() - begin_s
    client.count_points(COLLECTION)
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
    rate = len(data.documents) / embed_s
    figures.append(Figure("upsert with embedding", rate, "abstracts/s", f"{_WRITERS} callers"))
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


def upsert(client: Client, documents: Sequence[Text]) -> None:
    """One point a document, embedded by the service; the next batch waits while one is embedded."""
    batches = [documents[at : at + _BATCH] for at in range(0, len(documents), _BATCH)]

    def write(batch: Sequence[Text]) -> None:
        points = [Point(one.id, text=f"{one.title} {one.text}") for one in batch]
        client.upsert_points(COLLECTION, points, lane="bulk", timeout_s=300)

    with ThreadPoolExecutor(_WRITERS) as writers:
        list(writers.map(write, batches))


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


def _slice(data: RetrievalSet, *, documents: int, queries: int) -> RetrievalSet:
    """The first judged queries of each split with their documents, filled up with others."""
    qrels = {split: dict(list(judged.items())[:queries]) for split, judged in data.qrels.items()}
    needed = {document for judged in qrels.values() for one in judged.values() for document in one}
    ordered = sorted(data.documents, key=lambda one: one.id not in needed)
    return RetrievalSet(ordered[: max(documents, len(needed))], data.queries, qrels)


def _beside(scores: dict[tuple[str, str], float], mode: str, peer: str, value: float) -> Comparison:
    return Comparison(
        f"{mode}, nDCG@10 on test", Figure(mode, scores["test", mode], ""), Figure(peer, value, "")
    )
