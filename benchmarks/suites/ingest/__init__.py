"""Ingestion: how fast files of each format become text, beside markitdown on the same files."""

from __future__ import annotations

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport, joined
from benchmarks.suites.ingest import parsing


def ingest(bench: Bench) -> SuiteReport:
    """All parts, one after the other."""
    return joined("ingest", [parsing.run(bench)])
