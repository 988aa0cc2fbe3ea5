"""What the suites found: one JSON document, Markdown tables, and a line for each target.

A target's line has five words, which programs may read:

    TARGET <name> <value> <bound> <verdict>

`bound` begins with `<=` or `>=`; the unit is the last part of the name. The verdict is `met` or
`missed`, or `unjudged` in a quick run, whose sizes are not the ones that the bound is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.machine import Machine

SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `note` says what it is of, where the name does not."""

    name: str
    value: float
    unit: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two things measured in one run, and what lies between them."""

    name: str
    ours: Figure
    peer: Figure

    @property
    def ratio(self) -> float:
        """Ours to the peer's."""
        return self.ours.value / self.peer.value if self.peer.value else float("nan")


@dataclass(frozen=True, slots=True)
class Target:
    """A value and what it may be at most (`<=`) or must be at least (`>=`)."""

    name: str
    value: float
    sense: Literal["<=", ">="]
    bound: float

    @property
    def met(self) -> bool:
        """False for NaN too."""
        return self.value <= self.bound if self.sense == "<=" else self.value >= self.bound

    def line(self, *, judged: bool) -> str:
        """See the module. A value is rounded for reading after it was judged."""
        verdict = ("met" if self.met else "missed") if judged else "unjudged"
        return f"TARGET {self.name} {self.value:.4g} {self.sense}{self.bound:g} {verdict}"


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """What one suite found. `setting` says with what: sizes, seeds, parameters."""

    suite: str
    setting: dict[str, Any]
    figures: Sequence[Figure] = ()
    comparisons: Sequence[Comparison] = ()
    targets: Sequence[Target] = ()
    elapsed_s: float = 0.0


def joined(suite: str, parts: Sequence[SuiteReport]) -> SuiteReport:
    """The parts of a suite as one; a setting that several have is that of the last."""
    return SuiteReport(
        suite=suite,
        setting={name: value for part in parts for name, value in part.setting.items()},
        figures=[one for part in parts for one in part.figures],
        comparisons=[one for part in parts for one in part.comparisons],
        targets=[one for part in parts for one in part.targets],
    )


@dataclass(frozen=True, slots=True)
class Report:
    """All suites of one run."""

    machine: Machine
    quick: bool
    started_at: str
    suites: Sequence[SuiteReport] = field(default_factory=tuple)

    def to_json(self) -> dict[str, Any]:
        """For programs; ratios and verdicts included."""
        document = {"schema_version": SCHEMA_VERSION, **asdict(self)}
        for suite, out in zip(self.suites, document["suites"], strict=True):
            for comparison, written in zip(suite.comparisons, out["comparisons"], strict=True):
                written["ratio"] = comparison.ratio
            for target, written in zip(suite.targets, out["targets"], strict=True):
                written["met"] = None if self.quick else target.met
        return document

    def to_markdown(self) -> str:
        """For people: the machine, then a table for each suite."""
        machine = self.machine
        lines = [
            f"{self.started_at}, commit {machine.commit or 'unknown'}: {machine.cores} cores of "
            f"{machine.cpu}, {machine.memory_gib:g} GiB, load before {machine.load_1m:g}, "
            f"Python {machine.python}."
        ]
        if machine.busy:
            lines += ["", "**The machine was busy before the start: times are doubtful.**"]
        if self.quick:
            lines += ["", "**A quick run: sizes are too small for the targets.**"]
        for suite in self.suites:
            lines += ["", *_table(suite)]
        return "\n".join(lines)

    def target_lines(self) -> list[str]:
        """One for each target."""
        return [
            target.line(judged=not self.quick) for suite in self.suites for target in suite.targets
        ]


def _table(suite: SuiteReport) -> list[str]:
    setting = ", ".join(f"{name} {value}" for name, value in suite.setting.items())
    lines = [f"### {suite.suite}", "", f"{setting} ({suite.elapsed_s:.0f} s)", ""]
    if suite.comparisons:
        lines += ["| | ours | peer | ratio | difference |", "|---|---|---|---|---|"]
        for one in suite.comparisons:
            between = f"{one.ours.value - one.peer.value:+.4g} {one.ours.unit}".rstrip()
            lines.append(
                f"| {one.name} | {_shown(one.ours)} | {_shown(one.peer)} | {one.ratio:.3g} "
                f"| {between} |"
            )
        lines.append("")
    if suite.figures:
        lines += ["| | value | |", "|---|---|---|"]
        lines += [f"| {one.name} | {_number(one)} | {one.note} |" for one in suite.figures]
        lines.append("")
    return lines


def _shown(figure: Figure) -> str:
    return f"{_number(figure)} ({figure.name})"


def _number(figure: Figure) -> str:
    value = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.4g}"
    return f"{value} {figure.unit}".rstrip()
