"""Ranking quality through the running services: SciFact dense, lexical, fused and reranked, as
points and as ingested documents; Cranfield and SQuAD's paragraphs beside BM25."""

from __future__ import annotations

import hashlib
import inspect
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ragmesh import Client, Rerank, SearchResult

from benchmarks import fused
from benchmarks.bench import Bench
from benchmarks.data import RetrievalSet, cranfield, read_beir, squad
from benchmarks.metrics import Qrels, mean_ndcg, mean_recall
from benchmarks.peers.environment import PeerMissing, find
from benchmarks.peers.process import running
from benchmarks.report import Comparison, Figure, SuiteReport, Target, joined

PUBLISHED_DENSE = 0.6451
"""all-MiniLM-L6-v2 on SciFact's test queries: 0.64508 in the results of the MTEB paper
(github.com/embeddings-benchmark/mtebpaper, results/all-MiniLM-L6-v2/SciFact.json)."""
PUBLISHED_BM25 = 0.6789
"""BM25 over one field, Anserini's reproduction page for BEIR v1.0.0 SciFact (flat)."""
PLAIN_BM25 = {"cranfield": 0.4012, "squad": 0.8589}
"""A plain BM25 in numpy (k1 0.9, b 0.4, an S-stemmer, 33 stop words, title and text), measured on
the same files; SQuAD's over all of its questions."""
DEPTH = 100
DOCUMENTS = "scifact-documents"
TOKENS = "scifact-tokens"

_SENTENCE_SPAN_BYTES = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way to search, by its name, and what the client is told for it."""

    name: str
    options: Mapping[str, Any]


DENSE, LEXICAL, FUSED, RERANKED = WAYS = (
    Way("dense", {"mode": "dense"}),
    Way("lexical", {"mode": "lexical"}),
    Way("fused", {"mode": "hybrid"}),
    Way("reranked", {"mode": "hybrid", "rerank": Rerank(method="sentences")}),
)


@dataclass(frozen=True, slots=True)
class Scores:
    """Means over the judged queries."""

    ndcg: float
    recall: float


def quality(bench: Bench) -> SuiteReport:
    """nDCG@10 and R@100. SciFact's test queries are held against targets; its train queries stand
    beside them, where settings are chosen. With data sets of one's own (`--data`), those alone."""
    if bench.options.data:
        return joined("quality", [given(bench, folder) for folder in bench.options.data])
    parts = [_scifact(bench), _documents(bench), _tokens(bench)]
    for name, data in (("cranfield", cranfield()), ("squad", squad())):
        parts.append(_other(bench, name, data))
    return joined("quality", parts)


def _scifact(bench: Bench) -> SuiteReport:
    data = bench.scifact.data
    figures: list[Figure] = []
    scores: dict[str, Scores] = {}
    for split in ("train", "test"):
        scores = scored(bench, fused.COLLECTION, data, split)
        figures += _figures(f"SciFact {split}", scores)
    rate = len(data.documents) / bench.scifact.upsert_s
    stored = sentence_bytes(bench.client, fused.COLLECTION, [one.id for one in data.documents])
    better = max(scores["dense"].ndcg, scores["lexical"].ndcg)
    return SuiteReport(
        suite="quality",
        setting={
            "abstracts": f"{len(data.documents):,}",
            "queries": f"{len(data.qrels['test'])} test, {len(data.qrels['train'])} train",
            "text": "title and abstract, cut at 256 tokens by the service",
            "fusion and reranking": "the defaults",
        },
        comparisons=[
            _beside("dense", scores["dense"].ndcg, "published (MTEB)", PUBLISHED_DENSE),
            _beside("lexical", scores["lexical"].ndcg, "published BM25 (Anserini)", PUBLISHED_BM25),
            _beside("fused", scores["fused"].ndcg, "the better leg", better),
            _beside("reranked", scores["reranked"].ndcg, "fused", scores["fused"].ndcg),
        ],
        figures=[
            *figures,
            Figure("upsert with embedding", rate, "abstracts/s", f"{fused.WRITERS} callers"),
            Figure("sentence vectors of a passage", stored, "bytes", "mean; what reranks"),
        ],
        targets=scifact_targets(scores, stored),
    )


def scifact_targets(scores: Mapping[str, Scores], stored_bytes: float) -> list[Target]:
    """Of the test queries."""
    dense, lexical, both = (scores[one].ndcg for one in ("dense", "lexical", "fused"))
    gain = scores["reranked"].ndcg - both
    return [
        Target("quality_dense_ndcg10_off_published", abs(dense - PUBLISHED_DENSE)),
        Target("quality_lexical_ndcg10", lexical),
        Target("quality_fused_over_better_leg", both - max(dense, lexical)),
        Target("quality_rerank_over_fused", gain),
        Target("quality_rerank_bytes_a_passage", stored_bytes),
    ]


def _documents(bench: Bench) -> SuiteReport:
    """The same abstracts through the document service: a document's place is its best passage's."""
    data = bench.scifact.data
    if bench.quick:
        data = data.part(documents=40, queries=10)
        kept = {split: dict(list(of.items())[:10]) for split, of in data.qrels.items()}
        data = RetrievalSet(data.documents[:40], data.queries, kept)
    bench.say(f"ingesting {len(data.documents):,} abstracts as documents")
    bench.client.create_collection(DOCUMENTS)
    fused.ingest(bench.client, data.documents, DOCUMENTS)
    scores = scored(bench, DOCUMENTS, data, "test")
    count = bench.client.count_points(DOCUMENTS).count
    return SuiteReport(
        suite="quality",
        setting={"as documents": f"{len(data.documents):,}, {count:,} passages"},
        figures=_figures("SciFact test, as documents", scores),
    )


def _tokens(bench: Bench) -> SuiteReport:
    """A collection with a full token store, where the SDK can make one."""
    ndcg, stored = float("nan"), float("nan")
    told = "not measured: the SDK cannot ask for a token store"
    if "token_store" in inspect.signature(bench.client.create_collection).parameters:
        data = bench.scifact.data
        bench.say(f"upserting {len(data.documents):,} abstracts with their tokens")
        options: dict[str, Any] = {"token_store": True}
        bench.client.create_collection(TOKENS, **options)
        fused.upsert(bench.client, data.documents, TOKENS)
        bench.client.count_points(TOKENS)
        way = Way("token store", {"mode": "hybrid", "rerank": _by_tokens()})
        ndcg = scored(bench, TOKENS, data, "test", [way])[way.name].ndcg
        stats: Any = bench.client.get_collection_stats(TOKENS)
        stored = getattr(stats, "token_bytes", float("nan")) / len(data.documents)
        told = "one for each abstract"
    return SuiteReport(
        suite="quality",
        setting={"token store": told},
        figures=[Figure("token store of a passage", stored, "bytes", "mean")],
        targets=[Target("quality_token_store_ndcg10", ndcg)],
    )


def _by_tokens() -> Rerank:
    method: Any = "tokens"  # a method of contracts that have a token store
    return Rerank(method=method)


def _other(bench: Bench, name: str, data: RetrievalSet) -> SuiteReport:
    if bench.quick:
        data = data.part(documents=100, queries=10)
    bench.say(f"upserting and embedding {len(data.documents):,} passages of {name}")
    bench.client.create_collection(name)
    fused.upsert(bench.client, data.documents, name)
    bench.client.count_points(name)
    scores = scored(bench, name, data, "test")
    return SuiteReport(
        suite="quality",
        setting={name: f"{len(data.documents):,} passages, {len(data.qrels['test']):,} queries"},
        comparisons=[
            Comparison(
                f"{name}: {way}, nDCG@10",
                Figure(way, of.ndcg, ""),
                Figure("plain BM25", PLAIN_BM25[name], ""),
            )
            for way, of in scores.items()
        ],
        figures=_figures(name, scores),
    )


def given(bench: Bench, folder: Path) -> SuiteReport:
    """A data set in BEIR's layout: the queries of `test`, or of the first split there is, beside
    BM25 where it is installed. Raises DataMissing."""
    data = read_beir(folder)
    split = "test" if "test" in data.qrels else min(data.qrels)
    if bench.quick:
        data = data.part(documents=100, queries=10)
    name = folder.resolve().name
    collection = f"data-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    bench.say(f"upserting and embedding {len(data.documents):,} passages of {name}")
    bench.client.create_collection(collection)
    fused.upsert(bench.client, data.documents, collection)
    bench.client.count_points(collection)
    scores = scored(bench, collection, data, split)
    setting = {name: f"{len(data.documents):,} passages, {len(data.qrels[split]):,} of {split}"}
    comparisons: list[Comparison] = []
    try:
        theirs = bm25s_scores(bench, data, split)
        comparisons = [
            Comparison(
                f"{name}: {way}, {measure}",
                Figure(way, getattr(of, key), ""),
                Figure("bm25s", getattr(theirs, key), ""),
            )
            for way, of in scores.items()
            for key, measure in (("ndcg", "nDCG@10"), ("recall", f"R@{DEPTH}"))
        ]
    except PeerMissing as error:
        bench.say(str(error))
        setting["bm25s not run"] = str(error)
    return SuiteReport(
        suite="quality", setting=setting, comparisons=comparisons, figures=_figures(name, scores)
    )


def bm25s_scores(bench: Bench, data: RetrievalSet, split: str) -> Scores:
    """bm25s on the same texts. Raises PeerMissing."""
    qrels = data.qrels[split]
    with running(find("bm25s")) as peer, tempfile.TemporaryDirectory() as folder:
        bench.say("searching the same with bm25s")
        file = Path(folder) / "texts.json"
        file.write_text(json.dumps([fused.passage(one) for one in data.documents]))
        peer.ask({"fill": str(file)})
        asked = [data.queries[query] for query in qrels]
        found = peer.ask({"search": asked, "k": min(DEPTH, len(data.documents))})["found"]
    run = {
        query: [data.documents[row].id for row in rows]
        for query, rows in zip(qrels, found, strict=True)
    }
    return Scores(mean_ndcg(run, qrels, 10), mean_recall(run, qrels, DEPTH))


def scored(
    bench: Bench, collection: str, data: RetrievalSet, split: str, ways: Sequence[Way] = WAYS
) -> dict[str, Scores]:
    """Every judged query of a split, each way."""
    qrels = data.qrels[split]
    scores = {}
    for way in ways:
        bench.say(f"{collection}: {len(qrels):,} queries of {split}, {way.name}")
        run = search_all(bench.client, collection, data, qrels, way)
        scores[way.name] = Scores(mean_ndcg(run, qrels, 10), mean_recall(run, qrels, DEPTH))
    return scores


def search_all(
    client: Client, collection: str, data: RetrievalSet, qrels: Qrels, way: Way
) -> dict[str, list[str]]:
    """What was found for every judged query, as the data set names it, the best first."""
    by_document = {fused.document_id(one.id): one.id for one in data.documents}
    run = {}
    for query in qrels:
        found = client.search_collection(
            collection, data.queries[query], limit=DEPTH, **way.options
        )
        run[query] = named(found, by_document)
    return run


def named(found: SearchResult, by_document: Mapping[str, str]) -> list[str]:
    """Ids of points, or of the documents that passages are of, each once at its best place."""
    names = []
    for hit in found.hits:
        document = hit.point.document.rpartition("/")[2]
        names.append(by_document[document] if document else hit.point.id)
    return list(dict.fromkeys(names))


def sentence_bytes(client: Client, collection: str, ids: Sequence[str]) -> float:
    """What a passage's sentence vectors take on average, over the hits of a few searches by
    point: a byte a number, and their spans."""
    sizes = []
    for one in ids[:: max(1, len(ids) // 50)]:
        found = client.search_collection(
            collection, point_id=one, mode="dense", include_sentences=True
        )
        for hit in found.hits:
            sizes.append(
                sum(len(s.int8_vector) + _SENTENCE_SPAN_BYTES for s in hit.point.sentences)
            )
    return float(np.mean(sizes)) if sizes else float("nan")


def _figures(name: str, scores: Mapping[str, Scores]) -> list[Figure]:
    figures = []
    for way, of in scores.items():
        figures += [
            Figure(f"{name}: {way}, nDCG@10", of.ndcg, ""),
            Figure(f"{name}: {way}, R@{DEPTH}", of.recall, ""),
        ]
    return figures


def _beside(way: str, ours: float, peer: str, theirs: float) -> Comparison:
    return Comparison(
        f"SciFact {way}, nDCG@10 on test", Figure(way, ours, ""), Figure(peer, theirs, "")
    )
