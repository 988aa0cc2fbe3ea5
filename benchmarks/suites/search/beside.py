"""The SDK beside Chroma's server and its HTTP client, on the same vectors with the same graph: each
client in a process of its own that runs one loop (`peers/searching.py`), in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.bench import COLLECTION, Bench
from benchmarks.clients import Clients, Found, ask_in_turns
from benchmarks.data import VectorSet
from benchmarks.metrics import recall_by_score
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.requests import EF_CONSTRUCTION, SEARCH_EF, M
from benchmarks.samples import median_ratio
from benchmarks.timing import Series


def run(bench: Bench) -> SuiteReport:
    """p50, p99 and recall of both; NaN for Chroma where it is not installed."""
    loaded = bench.vectors
    data = loaded.vectors
    rounds, calls = (3, 50) if bench.quick else (7, 200)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragmesh-bench-")))
        clients = Clients(bench, stack, folder)
        clients.start("sdk", address=bench.mesh.nodes[0], collection=COLLECTION)
        chroma = clients.start("chroma", m=M, ef_construction=EF_CONSTRUCTION, ef=SEARCH_EF)
        qdrant = None
        if "qdrant" in bench.options.peers:
            qdrant = clients.start(
                "qdrant",
                url=bench.options.peers["qdrant"],
                dimensions=data.points.shape[1],
                m=M,
                ef_construction=EF_CONSTRUCTION,
                ef=SEARCH_EF,
            )
        if qdrant is not None:
            bench.say(f"filling Qdrant with {len(data.points):,} points")
            qdrant.fill(data.points, {"n": np.arange(len(data.points), dtype=np.float64)})
        fill_s = float("nan")
        if chroma is not None:
            bench.say(f"filling Chroma with {len(data.points):,} points")
            fill_s = chroma.fill(data.points, {"n": np.arange(len(data.points), dtype=np.float64)})
        for client in clients.running.values():
            client.take(data.queries)
        bench.say(f"searching in turns, {rounds} rounds of {calls}")
        asked = ask_in_turns(
            clients.running,
            [None] * len(data.queries),
            rounds=rounds,
            calls=calls,
            warm_up=calls // 2,
        )
        versions = clients.versions
        missing = "; ".join(clients.missing)
    ratio = float("nan") if chroma is None else _over(asked["sdk"][0], asked["chroma"][0])
    setting = {"clients": versions} | ({"not run": missing} if missing else {})
    return SuiteReport(
        suite="search",
        setting=setting,
        comparisons=_comparisons(data, asked),
        figures=[
            Figure("Chroma filled and indexed after", fill_s, "s", "its client, one caller"),
            Figure("ragmesh settled after", loaded.settled_s, "s", "the SDK, one caller"),
        ],
        targets=[Target("search_sdk_over_chroma_p50", ratio)],
    )


def _over(ours: Series, theirs: Series) -> float:
    """Of the p50, the median of the rounds' ratios."""
    return median_ratio(ours.p50_ms(), theirs.p50_ms())


def _comparisons(data: VectorSet, asked: Mapping[str, tuple[Series, Found]]) -> list[Comparison]:
    """The SDK beside each server that ran."""
    ours, our_rows = asked["sdk"]
    found = []
    for key, server in (("chroma", "Chroma"), ("qdrant", "Qdrant")):
        if key not in asked:
            continue
        theirs, their_rows = asked[key]
        found += [
            _timed(f"SDK beside {server}'s server, p50", server, ours, theirs, 50),
            _timed(f"SDK beside {server}'s server, p99", server, ours, theirs, 99),
            Comparison(
                f"recall@10, the same calls as {server}",
                Figure("SDK", _recall(data, our_rows), ""),
                Figure(server, _recall(data, their_rows), ""),
            ),
        ]
    return found


def _timed(name: str, server: str, ours: Series, theirs: Series, percent: float) -> Comparison:
    return Comparison(
        name,
        Figure("SDK", ours.percentile_ms(percent), "ms"),
        Figure(server, theirs.percentile_ms(percent), "ms"),
    )


def _recall(data: VectorSet, found: Found) -> float:
    """Of answers in the order of the queries, counted around."""
    rows = [i % len(data.queries) for i in range(len(found))]
    exact = [data.exact[row] for row in rows]
    return recall_by_score(found, exact, data.points, data.queries[rows])
