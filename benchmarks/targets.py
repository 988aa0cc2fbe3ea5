"""Every bound that a figure is held against, from `targets.toml`, and the judge that holds it.

Suites say what they measured. What it may be stands in one file, each bound with its source, so
that nobody finds a bound that a suite has made for itself.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.report import Target

FILE = Path(__file__).with_name("targets.toml")

Sense = Literal["<=", ">="]
Verdict = Literal["met", "missed", "unmeasured", "unjudged"]
"""`unmeasured`: the value is not a number, because what it needs was not there or never answered.
`unjudged`: of a quick run, whose sizes are not those that the bound is for."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What a figure may be at most (`<=`) or must be at least (`>=`), and who says so.

    `headline` is what the ratio is called in the report's first table; empty for all others.
    """

    name: str
    sense: Sense
    value: float
    source: str
    headline: str = ""

    def __str__(self) -> str:
        return f"{self.sense}{self.value:g}"

    def holds(self, value: float) -> bool:
        """False for NaN."""
        return value <= self.value if self.sense == "<=" else value >= self.value


@dataclass(frozen=True, slots=True)
class Judged:
    """A figure with the bound that it was held against."""

    target: Target
    bound: Bound
    verdict: Verdict

    def line(self) -> str:
        """Five words, as benchmarks/report.py has them. Rounded for reading after judging."""
        value = self.target.value
        return f"TARGET {self.target.name} {value:.4g} {self.bound} {self.verdict}"


@dataclass(frozen=True, slots=True)
class Targets:
    """All bounds by name, and for those that are missed what causes it and would close it."""

    bounds: Mapping[str, Bound]
    causes: Mapping[str, str]

    def judge(self, measured: Sequence[Target], *, quick: bool = False) -> list[Judged]:
        """Each figure that has a bound, in order."""
        found = []
        for target in measured:
            bound = self.bounds.get(target.name) or _own(target)
            if bound is not None:
                found.append(Judged(target, bound, _verdict(target.value, bound, quick=quick)))
        return found


def read_targets(file: Path = FILE) -> Targets:
    """The bounds of a file. Raises ValueError that names the row and what is wrong with it."""
    told = tomllib.loads(file.read_text(encoding="utf-8"))
    bounds = {name: _bound(name, row) for name, row in told.get("bounds", {}).items()}
    causes: dict[str, str] = told.get("causes", {})
    for name in causes:
        if name not in bounds:
            raise ValueError(f"{file.name}: a cause is given for {name!r}, which has no bound")
    return Targets(bounds, causes)


def _bound(name: str, row: Mapping[str, Any]) -> Bound:
    unknown = sorted(set(row) - {"at_most", "at_least", "source", "headline"})
    if unknown:
        raise ValueError(f"bound {name!r} has {unknown[0]!r}, which is no part of a bound")
    if ("at_most" in row) == ("at_least" in row):
        raise ValueError(f"bound {name!r} needs one of at_most and at_least")
    if not str(row.get("source", "")).strip():
        raise ValueError(f"bound {name!r} does not say where it comes from: give it a source")
    sense: Sense = "<=" if "at_most" in row else ">="
    value = float(row["at_most"] if sense == "<=" else row["at_least"])
    return Bound(name, sense, value, row["source"], row.get("headline", ""))


def _own(target: Target) -> Bound | None:
    """A bound that came with the figure; tests refuse it in a suite of this repository."""
    if target.sense is None or target.bound is None:
        return None
    return Bound(target.name, target.sense, target.bound, "the suite itself")


def _verdict(value: float, bound: Bound, *, quick: bool) -> Verdict:
    if math.isnan(value):
        return "unmeasured"
    if quick:
        return "unjudged"
    return "met" if bound.holds(value) else "missed"
