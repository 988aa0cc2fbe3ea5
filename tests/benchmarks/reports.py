"""Reports made by hand, for tests of what reads them."""

from __future__ import annotations

from benchmarks.machine import Machine
from benchmarks.report import Comparison, Curve, Figure, Report, SuiteReport, Target
from benchmarks.samples import Median
from benchmarks.targets import Bound, Targets

MACHINE = Machine("CPU X", 2, 24.0, 0.1, 0.2, "Linux", "3.11", "abc", {"grpcio": "1"})
TARGETS = Targets(
    {
        "search_over_chroma_p50": Bound(
            "search_over_chroma_p50", "<=", 0.25, "budget: beside Chroma", "Search, p50, to Chroma"
        ),
        "search_recall": Bound("search_recall", ">=", 0.99, "budget: recall"),
        "restart_s": Bound("restart_s", "<=", 3, "budget: restarts"),
        "writes_per_s": Bound("writes_per_s", ">=", 100, "budget: writes"),
    },
    {"search_over_chroma_p50": "half of it is an empty call."},
)


def timed(ms: list[float], *, machine: Machine = MACHINE, quick: bool = False) -> Report:
    """One suite that measured a time in these rounds, beside a peer that took 2 ms in each."""
    ours, peer = Median(ms), Median([2.0] * len(ms))
    comparison = Comparison("search, p50", Figure("SDK", ours, "ms"), Figure("Chroma", peer, "ms"))
    suite = SuiteReport(
        "search",
        {"points": 7, "not run": "qdrant is not installed"},
        [Figure("p50", ours, "ms"), Figure("upsert", 12_345.6, "points/s")],
        [comparison],
        [Target("search_over_chroma_p50", comparison.ratio), Target("search_recall", 0.995)],
        curves=[
            Curve("recall", "ragmesh", "queries/s", [(0.9, 3_000), (0.99, 900)]),
            Curve("load", "ragmesh <p99>", "ms", [(100, 2.0), (400, 9.0), (800, 120.0)]),
            Curve("growth", "memory", "MiB", [(1_000, 2), (10_000, 20), (100_000, 200)]),
        ],
    )
    quality = SuiteReport(
        "quality",
        {},
        [
            Figure("SciFact test: dense, nDCG@10", 0.645, ""),
            Figure("SciFact test: fused, nDCG@10", 0.72, ""),
            Figure("cranfield: fused, nDCG@10", 0.48, ""),
        ],
        targets=[Target("restart_s", float("nan"))],
    )
    at = "2026-01-01T00:00:00+00:00"
    return Report(machine, quick, at, (suite, quality), {"data": [0]}, ["tei: not run"])
