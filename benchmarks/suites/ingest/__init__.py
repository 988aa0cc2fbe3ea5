"""Ingestion: how fast files of each format become text, beside markitdown on the same files; what
becomes of each file of a corpus; files end to end beside their embedding alone; memory while
thousands go through; the largest files; and a node that is killed again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.bench import Bench
from benchmarks.data import DataMissing
from benchmarks.report import SuiteReport, joined
from benchmarks.suites.ingest import corpus, kills, large, memory, parsing, throughput

PARTS: Mapping[str, Callable[[Bench], SuiteReport]] = {
    "parsing": parsing.run,
    "corpus": corpus.run,
    "throughput": throughput.run,
    "memory": memory.run,
    "large": large.run,
    "kills": kills.run,
}


def ingest(bench: Bench) -> SuiteReport:
    """The parts that were asked for, or all, one after the other; one whose data is missing says so
    instead. Raises AssertionError for an unknown part."""
    wanted = bench.options.parts or tuple(PARTS)
    unknown = sorted(set(wanted) - set(PARTS))
    if unknown:
        raise AssertionError(f"ingest has no part {unknown[0]!r}, only {', '.join(PARTS)}")
    return joined("ingest", [_part(bench, name) for name in wanted])


def _part(bench: Bench, name: str) -> SuiteReport:
    try:
        return PARTS[name](bench)
    except DataMissing as error:
        bench.say(f"ingest: {name} is left out: {error}")
        return SuiteReport("ingest", {f"{name} not run": str(error)})
