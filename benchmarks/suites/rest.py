"""The same search as REST and as gRPC through Envoy, and as gRPC to the node itself."""

from __future__ import annotations

import base64
from contextlib import closing

import grpc
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import retrieval_service_pb2_grpc as stubs

from benchmarks.bench import COLLECTION, Bench
from benchmarks.http import HttpConnection
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.requests import K
from benchmarks.suites.search.single import request_of
from benchmarks.timing import Series, in_turns


def rest(bench: Bench) -> SuiteReport:
    """p50 and p99 of each way in, taken in turns: one connection, one call at a time."""
    data = bench.vectors.vectors
    rounds, calls = (3, 50) if bench.quick else (7, 200)
    with (
        grpc.insecure_channel(bench.gateway) as through,
        grpc.insecure_channel(bench.mesh.nodes[0]) as direct,
        closing(HttpConnection(bench.gateway)) as http,
    ):
        through_stub = stubs.RetrievalServiceStub(through)
        direct_stub = stubs.RetrievalServiceStub(direct)
        path = f"/v1/collections/{COLLECTION}:search"
        vectors = data.queries
        packed = [
            http.request(path, {"vector": {"packed": base64.b64encode(row).decode()}, "limit": K})
            for row in vectors
        ]
        numbers = [
            http.request(path, {"vector": {"dense": {"values": row.tolist()}}, "limit": K})
            for row in vectors
        ]
        _check_same(through_stub, http, packed[0], numbers[0], request_of(data, 0))
        bench.say(f"searching in turns, {rounds} rounds of {calls}")
        times = in_turns(
            {
                "rest": lambda i: http.send(packed[i % len(packed)]),
                "rest, numbers": lambda i: http.send(numbers[i % len(numbers)]),
                "grpc": lambda i: through_stub.SearchCollection(request_of(data, i)),
                "direct": lambda i: direct_stub.SearchCollection(request_of(data, i)),
            },
            rounds=rounds,
            calls=calls,
            warm_up=calls // 2,
        )
    grpc_times = times["grpc"]
    return SuiteReport(
        suite="rest",
        setting={
            "points": f"{len(data.points):,} x {data.points.shape[1]}",
            "top": K,
            "rounds": f"{rounds} of {calls}, one call at a time",
            "REST": "HTTP/1.1, kept alive, over a raw socket; JSON decoded",
        },
        comparisons=[
            _compared("REST, vector as base64, p50", times["rest"], grpc_times),
            _compared("REST, vector as numbers, p50", times["rest, numbers"], grpc_times),
            _compared("gRPC to the node itself, p50", times["direct"], grpc_times),
        ],
        targets=[
            Target(
                "rest_over_grpc_through_envoy_p50_ms",
                times["rest"].p50_over_ms(grpc_times),
            )
        ],
    )


def _check_same(
    stub: stubs.RetrievalServiceStub,
    http: HttpConnection,
    packed: bytes,
    numbers: bytes,
    request: pb.SearchCollectionRequest,
) -> None:
    """Raises AssertionError unless all ways give the same points."""
    expected = [hit.point.id for hit in stub.SearchCollection(request).hits]
    for sent in (packed, numbers):
        found = [hit["point"]["id"] for hit in http.send(sent)["hits"]]
        if found != expected:
            raise AssertionError(f"REST found {found}, gRPC found {expected}")


def _compared(name: str, ours: Series, grpc_times: Series) -> Comparison:
    return Comparison(
        name,
        Figure(f"p99 {ours.p99_ms():.3f} ms", ours.p50_ms(), "ms"),
        Figure(f"gRPC through Envoy, p99 {grpc_times.p99_ms():.3f} ms", grpc_times.p50_ms(), "ms"),
    )
