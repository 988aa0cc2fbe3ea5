"""Dense search over gRPC beside raw hnswlib with the same settings, in one run; and beside hnswlib
behind a bare gRPC server, which is what the transport alone costs.

Server time is that of the handler, by the node's metrics, with every interceptor on: what hnswlib
in process takes for the same queries is taken from it, round by round."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import hnswlib
import numpy as np
from grpc_health.v1 import health_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import retrieval_service_pb2_grpc as stubs

from benchmarks.bare import METHOD, bare_server
from benchmarks.bench import COLLECTION, Bench
from benchmarks.data import VectorSet
from benchmarks.mesh import HandlerTime
from benchmarks.metrics import recall_by_score
from benchmarks.rates import Rates, rounds_in_turns
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.requests import EF_CONSTRUCTION, SEARCH_EF, K, M, search_request
from benchmarks.samples import Median
from benchmarks.timing import Series, Side, in_turns


@dataclass(frozen=True, slots=True)
class Measured:
    """The times of each side, and what the node says of its own: mean time in the handler, p50 in
    the index. `recall` is that of the service; `server_ms` and `raw_ms` are means of each round.
    """

    times: dict[str, Series]
    handler_ms: float
    index_ms: float
    recall: float
    server_ms: Rates
    raw_ms: Rates

    @property
    def server_over_raw_ms(self) -> Median:
        """The median of the rounds' differences."""
        pairs = zip(self.server_ms.values, self.raw_ms.values, strict=True)
        return Median([server - raw for server, raw in pairs])


def run(bench: Bench) -> SuiteReport:
    """p50 and p99 of the SDK, of a plain stub, of a bare server and of hnswlib in this process,
    taken in turns."""
    loaded = bench.vectors
    data = loaded.vectors
    bench.say("building raw hnswlib's graph")
    begin_s = time.perf_counter()
    raw = raw_index(data)
    raw_build_s = time.perf_counter() - begin_s
    rounds, calls = (3, 50) if bench.quick else (7, 200)
    measured = _measure(bench, data, raw, rounds, calls)
    labels, _ = raw.knn_query(data.queries, k=K)
    theirs = recall_by_score(labels.tolist(), list(data.exact), data.points, data.queries)
    times = measured.times
    stub_times, raw_times = times["stub"], times["hnswlib"]
    return SuiteReport(
        suite="search",
        setting={
            "points": f"{len(data.points):,} x {data.points.shape[1]} ({loaded.source})",
            "M": M,
            "ef_construction": EF_CONSTRUCTION,
            "ef": SEARCH_EF,
            "top": K,
            "segments": loaded.segments,
            "buffered": loaded.buffered,
            "rounds": f"{rounds} of {calls}, one call at a time",
        },
        comparisons=[
            *(
                _compared(name, times[name], raw_times)
                for name in ("stub", "SDK", "stub, ids only", "bare gRPC")
            ),
            Comparison(
                "stub over bare gRPC, p50",
                Figure("stub", stub_times.p50_ms(), "ms"),
                Figure("bare gRPC", times["bare gRPC"].p50_ms(), "ms"),
            ),
            Comparison(
                "recall@10", Figure("gRPC", measured.recall, ""), Figure("hnswlib", theirs, "")
            ),
        ],
        figures=[
            Figure("an empty gRPC call", times["empty call"].p50_ms(), "ms", "p50, health check"),
            *_where_the_time_goes(measured, stub_times.p50_ms(), raw_times.p50_ms()),
            Figure("upsert", len(data.points) / loaded.upsert_s, "points/s", "SDK, one caller"),
            Figure("searchable after", loaded.searchable_s, "s", "since the first write"),
            Figure("settled after", loaded.settled_s, "s", "since the first write"),
            Figure("hnswlib's graph after", raw_build_s, "s", "all cores"),
            Figure("index memory", loaded.memory_kib / 1024, "MiB", "the node's estimate"),
        ],
        targets=[
            Target("search_server_over_raw_ms", measured.server_over_raw_ms),
            Target("search_recall_at_10", measured.recall),
        ],
    )


def _measure(
    bench: Bench, data: VectorSet, raw: hnswlib.Index, rounds: int, calls: int
) -> Measured:
    with (
        tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder,
        bare_server(raw, SEARCH_EF, Path(folder)) as bare_address,
        grpc.insecure_channel(bare_address) as bare_channel,
        grpc.insecure_channel(bench.mesh.nodes[0]) as channel,
    ):
        bare: Any = bare_channel.unary_unary(METHOD)
        stub = stubs.RetrievalServiceStub(channel)
        health = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        replies: list[pb.SearchCollectionResponse] = []
        sides: dict[str, Side] = {
            "hnswlib": lambda i: raw.knn_query(data.queries[i % len(data.queries)], k=K),
            "bare gRPC": lambda i: bare(data.queries[i % len(data.queries)].tobytes()),
            "stub": lambda i: replies.append(stub.SearchCollection(request_of(data, i))),
            "stub, ids only": lambda i: stub.SearchCollection(request_of(data, i, ids_only=True)),
            "SDK": lambda i: bench.client.search_collection(
                COLLECTION, vector=data.queries[i % len(data.queries)], limit=K
            ),
        }
        # The least that a call to the same process costs: none of our chain, nothing done.
        sides["empty call"] = lambda i: health(health_pb2.HealthCheckRequest())
        bench.say(f"searching in turns, {rounds} rounds of {calls}")
        handler = HandlerTime(bench.mesh.metrics[0], "SearchCollection")
        times = in_turns(sides, rounds=rounds, calls=calls, warm_up=calls // 2)
        index_ms = float(np.median([reply.timings.search_ms for reply in replies]))
        handler_ms = handler.mean_ms()
        means = _server_and_raw(bench, data, raw, stub, rounds, calls)
        found = _found(stub, data)
        recall = recall_by_score(found, list(data.exact), data.points, data.queries)
        return Measured(times, handler_ms, index_ms, recall, means["server"], means["hnswlib"])


def _server_and_raw(
    bench: Bench,
    data: VectorSet,
    raw: hnswlib.Index,
    stub: stubs.RetrievalServiceStub,
    rounds: int,
    calls: int,
) -> dict[str, Rates]:
    """Mean milliseconds of a call, in the node's handler and in hnswlib, in turns."""

    def server(number: int) -> float:
        handler = HandlerTime(bench.mesh.metrics[0], "SearchCollection")
        for i in range(number * calls, (number + 1) * calls):
            stub.SearchCollection(request_of(data, i))
        return handler.mean_ms()

    def alone(number: int) -> float:
        asked = range(number * calls, (number + 1) * calls)
        begin_s = time.perf_counter()
        for i in asked:
            raw.knn_query(data.queries[i % len(data.queries)], k=K)
        return (time.perf_counter() - begin_s) / calls * 1000

    return rounds_in_turns({"server": server, "hnswlib": alone}, rounds)


def raw_index(data: VectorSet) -> hnswlib.Index:
    """hnswlib as it comes, one thread a query, labels by row."""
    index = hnswlib.Index("cosine", data.points.shape[1])
    index.init_index(len(data.points), M=M, ef_construction=EF_CONSTRUCTION)
    index.add_items(data.points, num_threads=len(os.sched_getaffinity(0)))
    index.set_ef(SEARCH_EF)
    index.set_num_threads(1)
    return index


def request_of(data: VectorSet, i: int, *, ids_only: bool = False) -> pb.SearchCollectionRequest:
    """The search for query `i`, counted around."""
    return search_request(COLLECTION, data.queries[i % len(data.queries)], ids_only=ids_only)


def _found(stub: stubs.RetrievalServiceStub, data: VectorSet) -> list[list[int]]:
    ask: Callable[[pb.SearchCollectionRequest], pb.SearchCollectionResponse]
    ask = stub.SearchCollection
    return [
        [int(hit.point.id) for hit in ask(request_of(data, i, ids_only=True)).hits]
        for i in range(len(data.queries))
    ]


def _compared(name: str, ours: Series, raw: Series) -> Comparison:
    """p50 with both sides; p99 stands in the names."""
    return Comparison(
        f"{name}, p50",
        Figure(f"p99 {ours.p99_ms():.3f} ms", ours.p50_ms(), "ms"),
        Figure(f"hnswlib, p99 {raw.p99_ms():.3f} ms", raw.p50_ms(), "ms"),
    )


def _where_the_time_goes(measured: Measured, total_ms: float, raw_ms: float) -> list[Figure]:
    handler_ms, index_ms = measured.handler_ms, measured.index_ms
    return [
        Figure("in the index", index_ms, "ms", "p50 by the replies"),
        Figure(
            "… over raw",
            index_ms - raw_ms,
            "ms",
            "exact scores, hits, caches gone cold",
        ),
        Figure("in the handler", handler_ms, "ms", "mean by the metrics, all sides that call"),
        Figure(
            "… one stub's calls alone",
            measured.server_ms.median,
            "ms",
            f"means of rounds {measured.server_ms.spread}; hnswlib's {measured.raw_ms.spread}",
        ),
        Figure("outside the handler", total_ms - handler_ms, "ms", "transport, client, bytes"),
    ]
