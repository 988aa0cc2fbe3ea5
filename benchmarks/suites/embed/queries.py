"""One query at a time beside sentence-transformers, and queries that come while bulk work runs."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import numpy as np
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as stubs

from benchmarks.bench import Bench
from benchmarks.load import Job, Outcome, percentile_ms, poisson, put
from benchmarks.rates import Rates
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.embed.material import Material
from benchmarks.suites.embed.sides import Sides
from benchmarks.timing import Series, Side, in_turns

QUERIES_PER_S = 20.0
BULK_CALLERS, BULK_BATCH = 8, 32
"""Some 200 texts always wait: the model is never idle, and the queue can choose by length."""
BULK_S, BULK_ROUNDS = 22.0, 3
_OPEN_S_MAX = 600.0


def run(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """Both parts."""
    alone, beside = _one_query(bench, sides, material), _beside_bulk(bench, sides, material)
    return SuiteReport(
        suite="queries",
        setting={**alone.setting, **beside.setting},
        comparisons=[*alone.comparisons, *beside.comparisons],
        figures=beside.figures,
        targets=[*alone.targets, *beside.targets],
    )


def _one_query(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """Through a plain stub, beside the time of sentence-transformers' own call in its process."""
    rounds, calls = (2, 10) if bench.quick else (7, 40)
    warm_up = calls // 2
    claims = material.claims
    peer = sides.peer("sentence_transformers")
    seconds: list[float] = []
    with grpc.insecure_channel(sides.node().address) as channel:
        stub = stubs.EmbeddingServiceStub(channel)
        ways: dict[str, Side] = {"gRPC": lambda i: stub.EmbedTexts(_query(claims[i]))}
        if peer is not None:
            ways["peer"] = lambda i: seconds.append(peer.embed([claims[i]]).seconds)
        bench.say(f"one query at a time, {rounds} rounds of {calls}")
        times = in_turns(ways, rounds=rounds, calls=calls, warm_up=warm_up)
    ours = times["gRPC"]
    own_s = np.array(seconds[warm_up:]) if peer is not None else np.full(rounds * calls, np.nan)
    theirs = Series(own_s.reshape(rounds, calls) * 1000)
    ratio = _medians(ours).over(_medians(theirs))
    return SuiteReport(
        suite="one query",
        setting={"one query": f"test claims, {rounds} rounds of {calls}, plain stub"},
        comparisons=[
            Comparison(
                "one query, p50",
                Figure(f"gRPC, p99 {ours.p99_ms():.3g} ms", ours.p50_ms(), "ms"),
                Figure(
                    f"sentence-transformers in process, p99 {theirs.p99_ms():.3g} ms",
                    theirs.p50_ms(),
                    "ms",
                ),
            )
        ],
        targets=[Target("embed_query_over_st_p50", ratio.median)],
    )


def _query(text: str) -> pb.EmbedTextsRequest:
    return pb.EmbedTextsRequest(
        model="embeddingModels/default", texts=[text], input_kind=pb.INPUT_KIND_QUERY
    )


def _medians(times: Series) -> Rates:
    return Rates(tuple(float(value) for value in np.percentile(times.rounds_ms, 50, axis=1)))


def _beside_bulk(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """The same bulk work alone and with queries beside it, in turns; as much of it as takes
    BULK_S alone, so that a round has enough queries for a 99th percentile."""
    rounds = 1 if bench.quick else BULK_ROUNDS
    address = sides.node().address
    count = _work(address, material, 0.0 if bench.quick else BULK_S)
    bench.say(f"{count} abstracts in bulk, alone and beside queries, {rounds} rounds")
    alone: list[Outcome] = []
    beside: list[Outcome] = []
    asked: list[Outcome] = []
    for number in range(rounds):
        bulk = _bulk(material.slice(number, count))
        arrivals_s = poisson(QUERIES_PER_S, _OPEN_S_MAX, seed=number)
        claims = material.claims
        queries = [[claims[i % len(claims)]] for i in range(len(arrivals_s))]
        alone.append(put(address, [bulk])["bulk"])
        both = put(address, [bulk, Job("queries", queries, arrivals_s=arrivals_s)])
        beside.append(both["bulk"])
        asked.append(both["queries"])
    _all_answered([*alone, *beside, *asked])
    latencies_ms = [ms for one in asked for ms in one.latencies_ms]
    p99_ms = Rates(tuple(percentile_ms(one.latencies_ms, 99) for one in asked))
    kept = _rates(beside).over(_rates(alone))
    return SuiteReport(
        suite="queries beside bulk",
        setting={
            "queries": f"Poisson, {QUERIES_PER_S:g}/s, timed from the intended send",
            "bulk": f"{count} abstracts, {BULK_CALLERS} callers, {BULK_BATCH} a call, "
            f"{rounds} rounds",
        },
        comparisons=[
            Comparison(
                "bulk beside queries",
                Figure(_rates(beside).spread, _rates(beside).median, "texts/s"),
                Figure(f"alone, {_rates(alone).spread}", _rates(alone).median, "texts/s"),
            )
        ],
        figures=[
            Figure(
                f"query beside bulk, p{percent}",
                percentile_ms(latencies_ms, percent),
                "ms",
                f"{len(latencies_ms)} queries; p99 by round {p99_ms.spread}",
            )
            for percent in (50, 95, 99)
        ],
        targets=[
            Target("embed_query_beside_bulk_p99_ms", percentile_ms(latencies_ms, 99)),
            Target("embed_bulk_lost_beside_queries", 1 - kept.median),
        ],
    )


def _work(address: str, material: Material, seconds: float) -> int:
    """How many abstracts take `seconds`, in whole calls."""
    if not seconds:
        return 2 * BULK_BATCH
    probe = 2 * BULK_CALLERS * BULK_BATCH
    rate = put(address, [_bulk(material.slice(0, probe))])["bulk"].texts_per_s
    return round(seconds * rate / BULK_BATCH) * BULK_BATCH


def _bulk(texts: Sequence[str]) -> Job:
    batches = [texts[start : start + BULK_BATCH] for start in range(0, len(texts), BULK_BATCH)]
    return Job("bulk", batches, lane="bulk", callers=BULK_CALLERS)


def _rates(outcomes: Sequence[Outcome]) -> Rates:
    return Rates(tuple(one.texts_per_s for one in outcomes))


def _all_answered(outcomes: Sequence[Outcome]) -> None:
    """A rate of those that were not refused would flatter. Raises RuntimeError."""
    failures = [one.failures for one in outcomes if one.failures]
    if failures:
        raise RuntimeError(f"requests failed: {failures}")
