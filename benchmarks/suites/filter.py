"""Filtered search: selectivities from a half to a thousandth, filters that know nothing of the
query, that keep its side and that keep the other (`benchmarks/conditions.py`), beside the same
searches without a filter and beside qdrant-edge in process."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from ragmesh import Point

from benchmarks.bench import Bench
from benchmarks.clients import Clients, Found, SearchClient, ask_in_turns
from benchmarks.conditions import (
    RELATIONS,
    Numbered,
    Range,
    Relation,
    nearest_within,
    number,
    ranges,
)
from benchmarks.data import Matrix
from benchmarks.metrics import recall_by_score
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.requests import EF, EF_CONSTRUCTION, K, M
from benchmarks.settled import until_settled
from benchmarks.timing import Series

SELECTIVITIES = (0.5, 0.2, 0.1, 0.05, 0.01, 0.001)
COLLECTION = "filtered"
QUERIES = 200


@dataclass(frozen=True, slots=True)
class Case:
    """One selectivity and relation: times and recall of each client, by its name."""

    relation: Relation
    selectivity: float
    times: Mapping[str, Series]
    recalls: Mapping[str, float]

    @property
    def name(self) -> str:
        """For people and for targets."""
        return f"{self.selectivity * 100:g} %, {self.relation}"


def filter(bench: Bench) -> SuiteReport:
    """Every case in turns, one client a process; the worst of all cases is held against the
    targets."""
    vectors, source = bench.data
    points, queries = vectors.points, _some(vectors.queries)
    numbered = number(points)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ragmesh-bench-")))
        clients = Clients(bench, stack, folder)
        settled_s = _fill_ours(bench, points, numbered)
        clients.start("sdk", address=bench.mesh.nodes[0], collection=COLLECTION)
        edge = clients.start(
            "qdrant_edge",
            dimensions=points.shape[1],
            m=M,
            ef_construction=EF_CONSTRUCTION,
            ef=EF,
        )
        filled_s = float("nan")
        if edge is not None:
            bench.say(f"filling qdrant-edge with {len(points):,} points")
            filled_s = edge.fill(points, numbered.numbers)
        for client in clients.running.values():
            client.take(queries)
        cases, plain = _ask(bench, clients.running, points, queries, numbered)
        setting = {
            "points": f"{len(points):,} x {points.shape[1]} ({source})",
            "filters": f"a range of floats, another for each of {len(queries)} queries",
            "M": M,
            "ef_construction": EF_CONSTRUCTION,
            "ef": EF,
            "top": K,
            "clients": clients.versions,
        } | ({"not run": "; ".join(clients.missing)} if clients.missing else {})
    return SuiteReport(
        suite="filter",
        setting=setting,
        comparisons=_beside(cases, plain) if edge is not None else [],
        figures=[
            *_figures(cases, plain),
            Figure("settled after", settled_s, "s", "since the first write"),
            Figure("qdrant-edge filled and indexed after", filled_s, "s", "in process"),
        ],
        targets=targets(cases, plain["sdk"]),
    )


def targets(cases: Sequence[Case], plain: Series) -> list[Target]:
    """The worst recall of each relation, and the slowest case over no filter at all."""
    worst = [
        Target(
            f"filter_{relation}_recall_at_10",
            min(case.recalls["sdk"] for case in cases if case.relation == relation),
        )
        for relation in RELATIONS
    ]
    slowest = max(case.times["sdk"].p50_ms() for case in cases)
    return [*worst, Target("filter_over_unfiltered_p50", slowest / plain.p50_ms())]


def _some(queries: Matrix) -> Matrix:
    """As many as are asked, spread over all kinds of them."""
    rows = np.linspace(0, len(queries) - 1, min(QUERIES, len(queries))).astype(int)
    return np.ascontiguousarray(queries[rows])


def _fill_ours(bench: Bench, points: Matrix, numbered: Numbered) -> float:
    bench.say(f"upserting {len(points):,} points with their numbers")
    bench.client.create_collection(COLLECTION, dimensions=points.shape[1])
    begin_s = time.perf_counter()
    numbers = numbered.numbers
    bench.client.upsert_points(
        COLLECTION,
        (
            Point(str(n), row, payload={name: float(of[n]) for name, of in numbers.items()})
            for n, row in enumerate(points)
        ),
    )
    bench.client.count_points(COLLECTION, timeout_s=120)
    _, settled_s = until_settled(bench.client, COLLECTION, bench.running.node_pid())
    return settled_s - begin_s


def _ask(
    bench: Bench,
    clients: Mapping[str, SearchClient],
    points: Matrix,
    queries: Matrix,
    numbered: Numbered,
) -> tuple[list[Case], dict[str, Series]]:
    rounds = 2 if bench.quick else 5
    calls, warm_up = len(queries) // rounds, len(queries) // 10
    unfiltered: list[Range | None] = [None] * len(queries)
    cases: list[Case] = []
    plain: dict[str, list[Series]] = {name: [] for name in clients}
    for relation in RELATIONS:
        bench.say(f"filters that are {relation}")
        # Once for each relation, so that the machine is the same that the filters meet.
        for name, (series, _) in ask_in_turns(
            clients, unfiltered, rounds=rounds, calls=calls, warm_up=warm_up
        ).items():
            plain[name].append(series)
        for selectivity in SELECTIVITIES:
            asked = ranges(numbered, queries, relation, selectivity)
            exact = nearest_within(points, numbered.numbers, queries, asked, K)
            done = ask_in_turns(clients, [*asked], rounds=rounds, calls=calls, warm_up=warm_up)
            recalls = {
                name: checked_recall(found, exact, points, queries, asked, numbered)
                for name, (_, found) in done.items()
            }
            times = {name: series for name, (series, _) in done.items()}
            cases.append(Case(relation, selectivity, times, recalls))
    together = {
        name: Series(np.concatenate([one.rounds_ms for one in several]))
        for name, several in plain.items()
    }
    return cases, together


def checked_recall(
    found: Found,
    exact: Sequence[NDArray[np.int64]],
    points: Matrix,
    queries: Matrix,
    asked: Sequence[Range],
    numbered: Numbered,
) -> float:
    """recall@10 of answers in the order of the queries. Raises AssertionError where one has a
    point that its filter does not let through."""
    for rows, one in zip(found, asked, strict=False):
        values = numbered.numbers[one.field][rows]
        if not bool(np.all((values >= one.gte) & (values < one.lt))):
            raise AssertionError(f"{one} let through points with {values.tolist()}")
    count = len(found)
    return recall_by_score(found, exact[:count], points, queries[:count])


def _figures(cases: Sequence[Case], plain: Mapping[str, Series]) -> list[Figure]:
    base = plain["sdk"]
    return [
        Figure("no filter, p50", base.p50_ms(), "ms", f"SDK, p99 {base.p99_ms():.3g} ms"),
        *(
            Figure(
                f"{case.name}, p50",
                case.times["sdk"].p50_ms(),
                "ms",
                f"{case.times['sdk'].p50_ms() / base.p50_ms():.2f} of no filter, "
                f"p99 {case.times['sdk'].p99_ms():.3g} ms, recall {case.recalls['sdk']:.4f}",
            )
            for case in cases
        ),
    ]


def _beside(cases: Sequence[Case], plain: Mapping[str, Series]) -> list[Comparison]:
    """Ours has gRPC before it, theirs has not."""
    return [
        Comparison(
            "no filter, p50",
            Figure("SDK over gRPC", plain["sdk"].p50_ms(), "ms"),
            Figure("qdrant-edge in process", plain["qdrant_edge"].p50_ms(), "ms"),
        ),
        *(
            Comparison(
                f"{case.name}, p50",
                Figure(f"recall {case.recalls['sdk']:.4f}", case.times["sdk"].p50_ms(), "ms"),
                Figure(
                    f"qdrant-edge, recall {case.recalls['qdrant_edge']:.4f}",
                    case.times["qdrant_edge"].p50_ms(),
                    "ms",
                ),
            )
            for case in cases
        ),
    ]
