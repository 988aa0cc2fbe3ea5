"""Thousands of small collections, of which some are open."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from ragmesh import Point

from benchmarks.bench import Bench
from benchmarks.data import Matrix
from benchmarks.processes import rss_kib, threads
from benchmarks.report import Figure, SuiteReport, Target
from benchmarks.stage import Stage, staged
from benchmarks.synthetic import Synthetic

COLLECTIONS, POINTS, OPEN = 2_000, 50, 100
WRITERS = 4


def run(bench: Bench) -> SuiteReport:
    """Memory and threads of a node that was started anew, before and after it searched some."""
    count, opened = (40, 10) if bench.quick else (COLLECTIONS, OPEN)
    points = next(rows for _, rows in Synthetic(POINTS, seed=4).steps())
    with staged() as stage:
        bench.say(f"making {count:,} collections of {POINTS} points")
        begin_s = time.perf_counter()
        _each(count, lambda n: _make(stage, n, points))
        made_s = time.perf_counter() - begin_s
        written_mib, written_threads = rss_kib(stage.pid) / 1024, threads(stage.pid)
        bench.say("starting the node anew")
        stage.mesh.stop_node()
        stage.mesh.start_node()
        known_mib = rss_kib(stage.pid) / 1024
        bench.say(f"searching {opened} of them")
        first_ms = _search(stage, points, opened)
        again_ms = _search(stage, points, opened)
        open_mib, open_threads = rss_kib(stage.pid) / 1024, threads(stage.pid)
    return SuiteReport(
        suite="scale",
        setting={"many": f"{count:,} collections of {POINTS} points, {opened} searched"},
        figures=[
            Figure("many: made in", made_s, "s", f"{WRITERS} callers, a collection a call or two"),
            Figure("many: node after writing them all", written_mib, "MiB", "resident"),
            Figure("many: its threads", float(written_threads), ""),
            Figure("many: node started anew, all known", known_mib, "MiB", "resident"),
            Figure(f"many: {opened} open", open_mib, "MiB", "resident, the whole process"),
            Figure("many: first search of one, p50", float(np.median(first_ms)), "ms", "opens it"),
            Figure("many: … the longest", float(np.max(first_ms)), "ms"),
            Figure("many: second search, p50", float(np.median(again_ms)), "ms"),
        ],
        targets=[
            Target("scale_many_rss_mb", open_mib * 2**20 / 1e6),
            Target("scale_many_threads", open_threads),
        ],
    )


def _each(count: int, work: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(WRITERS) as callers:
        list(callers.map(work, range(count)))


def _make(stage: Stage, number: int, points: Matrix) -> None:
    name = f"many-{number}"
    stage.client.create_collection(name, dimensions=points.shape[1])
    rows = (Point(f"{number}-{n}", row, payload={"n": n}) for n, row in enumerate(points))
    stage.client.upsert_points(name, rows)


def _search(stage: Stage, points: Matrix, opened: int) -> list[float]:
    """Milliseconds of one search each. Raises AssertionError where one does not find its point."""
    times_ms = []
    for number in range(opened):
        wanted = number % len(points)
        begin_s = time.perf_counter()
        found = stage.client.search_collection(f"many-{number}", vector=points[wanted])
        times_ms.append((time.perf_counter() - begin_s) * 1000)
        if found.hits[0].point.id != f"{number}-{wanted}":
            raise AssertionError(f"many-{number} found {found.hits[0].point.id}")
    return times_ms
