"""Beside the usual stack, a FastAPI service over Chroma and sentence-transformers: the same
abstracts in, the same claims searched and asked, over REST on both sides.

The sides take turns where they can: searches and questions, round by round. Ingestion is one after
the other, because each would slow the other down. Both have all cores.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks import fused
from benchmarks.bench import Bench
from benchmarks.data import RetrievalSet, Text, demo_questions, scifact
from benchmarks.http import HttpConnection
from benchmarks.metrics import mean_ndcg
from benchmarks.peers.environment import PeerMissing, find
from benchmarks.peers.process import running
from benchmarks.processes import family_pss_kib
from benchmarks.rates import Measured, rounds_in_turns
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from engine.models import default

PEER = "usual_stack"
OURS, THEIRS = "ragmesh", "usual stack"
COLLECTION = "usual"
CALLERS = 4
BATCH = 32
LIMIT = 10
"""Passages of a search, and the depth of nDCG."""

Asked = tuple[str, dict[str, Any]]
"""Path and body of a request."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: the address of its REST API, how all texts go in until they are found, what a
    search and a question look like, the documents of a search's reply, and the processes that
    serve it."""

    address: str
    ingest: Callable[[Sequence[Text]], None]
    search: Callable[[str], Asked]
    ask: Callable[[str], Asked]
    documents: Callable[[Mapping[str, Any]], list[str]]
    pids: Callable[[], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a side did, in units of the report's rows; the rates keep their rounds."""

    ingested_per_s: float
    searches_per_s: float
    questions_per_s: float
    ndcg: float
    memory_mib: float


ROWS = (
    ("documents ingested", "ingested_per_s", "documents/s"),
    ("text searches over REST", "searches_per_s", "/s"),
    ("questions over REST", "questions_per_s", "/s"),
    ("nDCG@10 of those searches", "ndcg", ""),
    ("memory of all processes, shared pages once", "memory_mib", "MiB"),
)


def stack(bench: Bench) -> SuiteReport:
    """Both sides, or ours alone where the other is not installed. Raises DataMissing."""
    data = scifact()
    if bench.quick:
        data = data.part(documents=100, queries=20)
    missing = ""
    with ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="ragmesh-bench-"))
        sides = {OURS: ours(bench)}
        try:
            bench.say(f"starting {PEER}")
            model = str(default.directory())
            peer = opened.enter_context(running(find(PEER), folder=folder, model=model))
            at = peer.ask({})
            sides[THEIRS] = theirs(at["address"], at["pid"])
        except PeerMissing as error:
            missing = str(error)
            bench.say(missing)
        found = measured(bench, sides, data)
    setting = {
        "documents": f"{len(data.documents):,} of SciFact",
        "load": f"{CALLERS} callers, each on a connection of its own",
    }
    return report(found, setting | ({"not run": missing} if missing else {}))


def measured(bench: Bench, sides: Mapping[str, Side], data: RetrievalSet) -> dict[str, Found]:
    """Everything of each side."""
    qrels = data.qrels["test"]
    ingest_s: dict[str, float] = {}
    for name, side in sides.items():
        bench.say(f"{name}: ingesting {len(data.documents):,} documents")
        begin_s = time.perf_counter()
        side.ingest(data.documents)
        ingest_s[name] = time.perf_counter() - begin_s
    bench.say("ranking every claim")
    names = {fused.document_id(one.id): one.id for one in data.documents}
    ndcg = {}
    for name, side in sides.items():
        replies = sent(side.address, [side.search(data.queries[one]) for one in qrels])
        run = {
            query: [names[one] for one in dict.fromkeys(side.documents(reply))]
            for query, reply in zip(qrels, replies, strict=True)
        }
        ndcg[name] = mean_ndcg(run, qrels, LIMIT)
    rounds, calls = (2, 20) if bench.quick else (7, 200)
    bench.say(f"searching and asking in turns, {rounds} rounds")
    claims = [data.queries[one] for one in qrels]
    questions = [one["question"] for one in demo_questions()]
    searched = rounds_in_turns(
        {name: _round(side.address, side.search, claims, calls) for name, side in sides.items()},
        rounds,
    )
    answered = rounds_in_turns(
        {
            name: _round(side.address, side.ask, questions, max(4, calls // 8))
            for name, side in sides.items()
        },
        rounds,
    )
    return {
        name: Found(
            len(data.documents) / ingest_s[name],
            searched[name].median,
            answered[name].median,
            ndcg[name],
            sum(map(family_pss_kib, side.pids())) / 1024,
        )
        for name, side in sides.items()
    }


def report(found: Mapping[str, Found], setting: Mapping[str, Any]) -> SuiteReport:
    """Rows of both sides; figures of ours alone where the other is missing."""
    mine, other = found[OURS], found.get(THEIRS)
    rows = [(name, key, Figure(OURS, getattr(mine, key), unit)) for name, key, unit in ROWS]
    if other is None:
        plain = [Figure(name, figure.value, figure.unit) for name, _, figure in rows]
        return SuiteReport("stack", dict(setting), plain, targets=targets(*[math.nan] * 4))
    pairs = {
        key: Comparison(name, figure, Figure(THEIRS, getattr(other, key), figure.unit))
        for name, key, figure in rows
    }
    searches, ingestion = pairs["searches_per_s"].ratio, pairs["ingested_per_s"].ratio
    above = mine.ndcg - other.ndcg
    return SuiteReport(
        "stack",
        dict(setting),
        comparisons=list(pairs.values()),
        targets=targets(searches, ingestion, pairs["memory_mib"].ratio, above),
    )


def targets(searches: float, ingestion: float, memory: float, ndcg_above: float) -> list[Target]:
    """Ratios to the usual stack, and a difference."""
    return [
        Target("stack_search_rate_over_usual", searches),
        Target("stack_ingest_rate_over_usual", ingestion),
        Target("stack_memory_over_usual", memory),
        Target("stack_ndcg10_above_usual", ndcg_above),
    ]


def ours(bench: Bench) -> Side:
    """A mesh of the run, through its gateway, with the search and the answers that it has by
    default."""

    def ingest(texts: Sequence[Text]) -> None:
        bench.client.create_collection(COLLECTION)
        requests = [
            (
                f"/v1/collections/{COLLECTION}/documents",
                {
                    "documentId": fused.document_id(one.id),
                    "text": f"{one.title}\n\n{one.text}",
                    "document": {"displayName": one.title[:200]},
                },
            )
            for one in texts
        ]
        for reply in sent(bench.gateway, requests):
            bench.client.wait_for_ingest_job(reply["ingestJob"]["name"], timeout_s=3_600)

    def documents(reply: Mapping[str, Any]) -> list[str]:
        return [hit["point"]["document"].rpartition("/")[2] for hit in reply.get("hits", ())]

    return Side(
        bench.gateway,
        ingest,
        lambda text: (
            f"/v1/collections/{COLLECTION}:search",
            {"text": text, "limit": LIMIT, "mode": "SEARCH_MODE_HYBRID"},
        ),
        lambda text: (
            "/v1/chat:ask",
            {"question": text, "collections": [f"collections/{COLLECTION}"]},
        ),
        documents,
        bench.running.pids,
    )


def theirs(address: str, pid: int) -> Side:
    """The peer, whose process is all of it."""

    def ingest(texts: Sequence[Text]) -> None:
        rows = [
            {"id": fused.document_id(one.id), "title": one.title, "text": one.text} for one in texts
        ]
        batches = [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]
        sent(address, [("/documents", {"documents": batch}) for batch in batches])

    return Side(
        address,
        ingest,
        lambda text: ("/search", {"query": text, "limit": LIMIT}),
        lambda text: ("/ask", {"question": text}),
        lambda reply: [hit["document"] for hit in reply["hits"]],
        lambda: [pid],
    )


def sent(address: str, requests: Sequence[Asked]) -> list[Any]:
    """The replies in order, by callers with a connection each."""

    def call(own: Sequence[Asked]) -> list[Any]:
        http = HttpConnection(address, timeout_s=300)
        try:
            return [http.send(http.request(path, body)) for path, body in own]
        finally:
            http.close()

    with ThreadPoolExecutor(CALLERS) as callers:
        parts = list(callers.map(call, [requests[n::CALLERS] for n in range(CALLERS)]))
    replies: list[Any] = [None] * len(requests)
    for n, part in enumerate(parts):
        replies[n::CALLERS] = part
    return replies


def _round(
    address: str, asked: Callable[[str], Asked], texts: Sequence[str], calls: int
) -> Measured:
    def measure(number: int) -> float:
        chosen = [texts[i % len(texts)] for i in range(number * calls, (number + 1) * calls)]
        begin_s = time.perf_counter()
        sent(address, [asked(one) for one in chosen])
        return calls / (time.perf_counter() - begin_s)

    return measure
