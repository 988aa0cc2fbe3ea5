"""Dense search: one call at a time beside hnswlib, a bare server and Chroma's server; what one
core serves, also of vectors kept as int8; and how long a search takes while segments are built."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport, joined
from benchmarks.suites.search import beside, building, coded, rate, single


def search(bench: Bench) -> SuiteReport:
    """All parts on one collection; the last one makes its own and writes to it."""
    return joined("search", [part.run(bench) for part in (single, beside, rate, coded, building)])
