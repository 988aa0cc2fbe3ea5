"""What one core of the node serves: its threads on one core, the load on the others.

Counted are OK replies at the server, over the time of the load. The CPU time that the node took in
it stands beside, so that "a core" can be checked.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import requests
from benchmarks.bench import COLLECTION, Bench
from benchmarks.mesh import HandlerTime
from benchmarks.pressure import Load, Outcome, put
from benchmarks.processes import cpu_s, on_cores
from benchmarks.report import Figure, SuiteReport, Target

IN_FLIGHT = 16
BATCH = 64
BATCHES_IN_FLIGHT = 4


@dataclass(frozen=True, slots=True)
class Rate:
    """`ok` replies by the node's metrics in `seconds`, for which its processes computed
    `cpu_s`; a reply answers `queries`."""

    ok: int
    seconds: float
    cpu_s: float
    queries: int
    outcome: Outcome

    @property
    def per_s(self) -> float:
        """Queries a second."""
        return self.ok * self.queries / self.seconds if self.seconds else float("nan")

    @property
    def per_cpu_s(self) -> float:
        """Queries for each second that the node computed."""
        return self.ok * self.queries / self.cpu_s if self.cpu_s else float("nan")

    @property
    def cores(self) -> float:
        """How many cores the node kept busy."""
        return self.cpu_s / self.seconds if self.seconds else float("nan")


def run(bench: Bench) -> SuiteReport:
    """Single searches, 16 in flight, and batches; NaN for those where there is no such RPC."""
    single, batched = rates(bench, COLLECTION)
    figures = [*_figures("requests", single)]
    if batched is not None:
        figures += _figures("queries in batches", batched)
    queries = bench.vectors.vectors.queries
    return SuiteReport(
        suite="search",
        setting={
            "rate": f"node on one core, load on {len(_cores()[1])}; {IN_FLIGHT} in flight, "
            f"{len(queries):,} different queries; batches of {_size(bench)}, ids only"
        },
        figures=figures,
        targets=[
            Target("search_requests_per_s_of_a_core", single.per_s),
            Target(
                "search_batched_queries_per_s_of_a_core",
                float("nan") if batched is None else batched.per_s,
            ),
        ],
    )


def rates(bench: Bench, collection: str) -> tuple[Rate, Rate | None]:
    """Of single searches of a collection, and of batches where there is such an RPC."""
    queries = bench.vectors.vectors.queries
    singles = [requests.search_request(collection, row).SerializeToString() for row in queries]
    bench.say(f"what one core serves of {collection}, {IN_FLIGHT} in flight")
    single = _measure(bench, "SearchCollection", singles, 1, IN_FLIGHT)
    size = _size(bench)
    batches = requests.batch_searches(collection, queries, size)
    if not batches:
        return single, None
    bench.say(f"what one core serves of {collection} in batches of {size}")
    return single, _measure(bench, "BatchSearchCollection", batches, size, BATCHES_IN_FLIGHT)


def _size(bench: Bench) -> int:
    return min(BATCH, len(bench.vectors.vectors.queries))


def _cores() -> tuple[set[int], set[int]]:
    """The node's core, and the load's: the same where there is only one."""
    first, *others = sorted(os.sched_getaffinity(0))
    return {first}, set(others) or {first}


def _measure(bench: Bench, rpc: str, prepared: list[bytes], queries: int, in_flight: int) -> Rate:
    node, load = _cores()
    pid = bench.running.node_pid()
    seconds = 2.0 if bench.quick else 10.0
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as name, on_cores(pid, node):
        file = Path(name) / "requests"
        requests.write(file, prepared)
        given = Load(
            address=bench.mesh.nodes[0],
            method=f"{requests.SERVICE}/{rpc}",
            file=str(file),
            in_flight=in_flight,
            seconds=1.0,
            cores=tuple(load),
        )
        put(given).check()  # warm
        handler, before_s = HandlerTime(bench.mesh.metrics[0], rpc), cpu_s(pid)
        outcome = put(_longer(given, seconds)).check()
        return Rate(handler.calls_ok(), outcome.elapsed_s, cpu_s(pid) - before_s, queries, outcome)


def _longer(load: Load, seconds: float) -> Load:
    return Load(load.address, load.method, load.file, load.in_flight, seconds, cores=load.cores)


def _figures(name: str, rate: Rate) -> list[Figure]:
    return [
        Figure(f"{name} of one core", rate.per_s, "/s", f"{rate.ok:,} OK replies at the server"),
        Figure(f"{name}: cores that the node used", rate.cores, "", "CPU time over wall time"),
        Figure(f"{name} by its CPU time", rate.per_cpu_s, "/s", "as if it had a core for itself"),
        Figure(f"{name}: a reply, p99", rate.outcome.percentile_ms(99), "ms", "with that load"),
    ]
