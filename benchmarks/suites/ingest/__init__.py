"""Ingestion: how fast files of each format become text, beside markitdown on the same files; and
what becomes of each file of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.report import SuiteReport, joined
from benchmarks.suites.ingest import corpus, parsing

PARTS: Mapping[str, Callable[[Bench], SuiteReport]] = {
    "parsing": parsing.run,
    "corpus": corpus.run,
}


def ingest(bench: Bench) -> SuiteReport:
    """The parts that were asked for, or all, one after the other. Raises AssertionError for an
    unknown part."""
    wanted = bench.options.parts or tuple(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise AssertionError(f"ingest has no part {unknown[0]!r}, only {', '.join(PARTS)}")
    return joined("ingest", [PARTS[name](bench) for name in wanted])
