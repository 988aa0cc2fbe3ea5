"""Searches as they come from outside: latency at fixed rates, whatever the node does meanwhile;
with 1, 16 and 64 in flight; and the rate at each recall.

At a fixed rate arrivals are Poisson and a latency counts from when its request was due, so that a
node that stalls is charged for all who would have come. The load runs in a process of its own and
sends prepared bytes, a different query each time.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import grpc
from ragmesh.api.retrieval.v1 import retrieval_service_pb2_grpc as stubs

from benchmarks import requests
from benchmarks.bench import COLLECTION, Bench
from benchmarks.data import VectorSet
from benchmarks.load import poisson
from benchmarks.mesh import HandlerTime
from benchmarks.metrics import recall_by_score
from benchmarks.pressure import Load, Outcome, put
from benchmarks.report import Curve, Figure, SuiteReport
from benchmarks.suites.search.single import raw_index

RATES_PER_S = (50, 100, 200, 400, 600, 800, 1_000, 1_200, 1_500, 2_000)
QUICK_RATES_PER_S = (50, 200)
IN_FLIGHT = (1, 16, 64)
BEAMS = (16, 32, 64, 128, 256)
LATENCY_MS = 50.0
"""What a p99 passes somewhere; that rate is a figure."""
ENOUGH_MS = 500.0
"""A p99 above which no higher rate is tried."""
SEED = 21

RatePoint = tuple[float, Outcome]


def load(bench: Bench) -> SuiteReport:
    """All three, on the run's collection of vectors."""
    data = bench.vectors.vectors
    seconds = 1.0 if bench.quick else 10.0
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        file = Path(folder) / "requests"
        made = (requests.search_request(COLLECTION, one) for one in data.queries)
        requests.write(file, (one.SerializeToString() for one in made))
        at_rates = _fixed_rates(bench, file, seconds)
        in_flight = _in_flight(bench, file, seconds)
    ours, raw = _recalls(bench, data, seconds)
    passed = rate_at(at_rates, LATENCY_MS)
    return SuiteReport(
        suite="load",
        setting={
            "points": f"{len(data.points):,} x {data.points.shape[1]}",
            "arrivals": f"Poisson, {seconds:g} s a rate, timed from when each was due",
        },
        figures=[
            *(
                Figure(f"p{percent} at {rate:g}/s", outcome.percentile_ms(percent), "ms")
                for rate, outcome in at_rates
                for percent in (50, 99)
            ),
            Figure(
                f"rate at which p99 passes {LATENCY_MS:g} ms",
                passed,
                "/s",
                "between two rates; NaN where none did",
            ),
            *in_flight,
        ],
        curves=[
            *(
                Curve(
                    "load",
                    f"p{percent}",
                    "ms",
                    [(rate, outcome.percentile_ms(percent)) for rate, outcome in at_rates],
                )
                for percent in (50, 99)
            ),
            Curve("recall", "ragmesh, gRPC, one call at a time", "queries/s", ours),
            Curve("recall", "hnswlib, in process, one thread", "queries/s", raw),
        ],
    )


def rate_at(at_rates: Sequence[RatePoint], latency_ms: float) -> float:
    """The rate at which p99 passes a latency, on a line between the logarithms of the two points
    around it; NaN where it does not."""
    for (low, before), (high, after) in pairwise(at_rates):
        below, above = before.percentile_ms(99), after.percentile_ms(99)
        if below <= latency_ms < above:
            share = math.log(latency_ms / below) / math.log(above / below)
            return float(low + (high - low) * share)
    return math.nan


def _fixed_rates(bench: Bench, file: Path, seconds: float) -> list[RatePoint]:
    found: list[RatePoint] = []
    for rate in QUICK_RATES_PER_S if bench.quick else RATES_PER_S:
        bench.say(f"{rate} searches a second")
        arrivals_s = poisson(rate, seconds, seed=SEED)
        given = Load(bench.mesh.nodes[0], requests.SEARCH, str(file), arrivals_s=arrivals_s)
        outcome = put(given)
        found.append((float(rate), outcome))
        if outcome.failed or outcome.percentile_ms(99) > ENOUGH_MS:
            break
    return found


def _in_flight(bench: Bench, file: Path, seconds: float) -> list[Figure]:
    figures = []
    for callers in IN_FLIGHT:
        bench.say(f"{callers} in flight")
        handler = HandlerTime(bench.mesh.metrics[0], "SearchCollection")
        given = Load(bench.mesh.nodes[0], requests.SEARCH, str(file), callers, seconds)
        outcome = put(given).check()
        rate = handler.calls_ok() / outcome.elapsed_s
        figures += [
            Figure(f"{callers} in flight", rate, "/s", "OK replies counted at the server"),
            Figure(f"{callers} in flight: p99", outcome.percentile_ms(99), "ms"),
        ]
    return figures


def _recalls(
    bench: Bench, data: VectorSet, seconds: float
) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """(recall@10, queries/s) for each beam: of a plain stub, and of hnswlib in this process, in
    turns, one query at a time."""
    count = min(len(data.queries), max(50, int(100 * seconds)))
    queries = data.queries[:count]
    bench.say(f"recall of {len(BEAMS)} beams, {count} queries each")
    raw = raw_index(data)
    ours, theirs = [], []
    with grpc.insecure_channel(bench.mesh.nodes[0]) as channel:
        stub = stubs.RetrievalServiceStub(channel)
        for beam in BEAMS:
            raw.set_ef(beam)
            asked = [requests.search_request(COLLECTION, one, ids_only=True) for one in queries]
            for one in asked:
                one.ef_search = beam
            begin_s = time.perf_counter()
            replies = [stub.SearchCollection(one) for one in asked]
            middle_s = time.perf_counter()
            rows = [raw.knn_query(one, k=requests.K)[0][0].tolist() for one in queries]
            end_s = time.perf_counter()
            found = [[int(hit.point.id) for hit in reply.hits] for reply in replies]
            ours.append((_recall(data, found), count / (middle_s - begin_s)))
            theirs.append((_recall(data, rows), count / (end_s - middle_s)))
    return sorted(ours), sorted(theirs)


def _recall(data: VectorSet, found: list[list[int]]) -> float:
    count = len(found)
    return recall_by_score(found, list(data.exact[:count]), data.points, data.queries[:count])
