"""Parsing alone: megabytes of files a second, by format, in process and on one core.

A file counts where both sides read it; what only one reads is counted, not timed. The files are
those of `$RAGMESH_DATA/parser-docs`, or the demo's where there are none.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.data import CORPUS, DATA_VARIABLE
from benchmarks.peers.environment import PeerMissing, find
from benchmarks.peers.process import PeerProcess, running
from benchmarks.report import Comparison, Figure, SuiteReport

PEER = "markitdown"
PASSES = 3


@dataclass(frozen=True, slots=True)
class Reading:
    """One file by one side: its bytes, and the seconds of the fastest pass; None if not read."""

    path: Path
    size_bytes: int
    seconds: float | None


def run(bench: Bench) -> SuiteReport:
    """Both sides over all files; the peer's figures are missing where it is not installed."""
    files = corpus(os.environ.get(DATA_VARIABLE, ""))
    passes = 1 if bench.quick else PASSES
    missing = ""
    theirs: list[Reading] = []
    with ExitStack() as stack:
        bench.say(f"parsing {len(files)} files")
        ours = read(stack.enter_context(running(find("ours"))), files, passes)
        try:
            peer = stack.enter_context(running(find(PEER)))
            bench.say(f"parsing them with {PEER}")
            theirs = read(peer, files, passes)
        except PeerMissing as error:
            missing = str(error)
            bench.say(missing)
    setting = {"files": len(files), "passes": passes} | ({"not run": missing} if missing else {})
    return SuiteReport(
        suite="ingest",
        setting=setting,
        figures=figures(ours, theirs),
        comparisons=comparisons(ours, theirs),
    )


def corpus(data: str) -> list[Path]:
    """The files, packed ones left out."""
    given = Path(data) / "parser-docs" / "unstructured"
    folder = given if data and given.is_dir() else CORPUS / "files"
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".gz")


def read(side: PeerProcess, files: Sequence[Path], passes: int) -> list[Reading]:
    """What a side makes of the files; the first pass over one of a kind loads its libraries, so
    one pass goes before those that count."""
    asked = {"files": [str(path) for path in files], "passes": 1}
    if passes > 1:
        side.ask(asked)
    seconds = side.ask({**asked, "passes": passes})["seconds"]
    return [
        Reading(path, path.stat().st_size, taken)
        for path, taken in zip(files, seconds, strict=True)
    ]


def comparisons(ours: Sequence[Reading], theirs: Sequence[Reading]) -> list[Comparison]:
    """MB/s by ending, over the files that both read."""
    pairs: dict[str, list[tuple[Reading, Reading]]] = defaultdict(list)
    for mine, other in zip(ours, theirs, strict=False):
        if mine.seconds is not None and other.seconds is not None:
            pairs[_ending(mine.path)].append((mine, other))
    return [
        Comparison(
            f"{ending}, {len(both)} files",
            Figure("ours", rate([mine for mine, _ in both]), "MB/s"),
            Figure(PEER, rate([other for _, other in both]), "MB/s"),
        )
        for ending, both in sorted(pairs.items())
    ]


def figures(ours: Sequence[Reading], theirs: Sequence[Reading]) -> list[Figure]:
    """MB/s by ending of all that we read, and how many files each side read."""
    by_ending: Mapping[str, list[Reading]] = defaultdict(list)
    for one in ours:
        if one.seconds is not None:
            by_ending[_ending(one.path)].append(one)
    rates = [
        Figure(f"parsing {ending}", rate(some), "MB/s", f"{len(some)} files")
        for ending, some in sorted(by_ending.items())
    ]
    counts = [Figure("files read", sum(one.seconds is not None for one in ours), "")]
    if theirs:
        number = sum(one.seconds is not None for one in theirs)
        counts.append(Figure(f"files read by {PEER}", number, ""))
    return [*rates, *counts]


def rate(readings: Sequence[Reading]) -> float:
    """Megabytes of files a second; NaN for no files. Pure."""
    seconds = sum(one.seconds or 0.0 for one in readings)
    size_bytes = sum(one.size_bytes for one in readings)
    return size_bytes / 1e6 / seconds if seconds else float("nan")


def _ending(path: Path) -> str:
    return path.suffix.lower().removeprefix(".") or "none"
