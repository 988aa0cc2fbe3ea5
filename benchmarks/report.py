"""What the suites found: one JSON document, Markdown tables, and a line for each target.

A target's line has five words, which programs may read:

    TARGET <name> <value> <bound> <verdict>

`bound` begins with `<=` or `>=` and comes from `targets.toml`; the unit is the last part of the
name. The verdict is `met`, `missed`, or `unmeasured` where the value is not a number; in a quick
run, whose sizes are not the ones that the bounds are for, it is `unjudged`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.machine import Machine
from benchmarks.samples import median_ratio, quartiles, samples_of

if TYPE_CHECKING:
    from benchmarks.targets import Judged, Targets

SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `note` says what it is of, where the name does not. A value that is a
    `Median` brings the samples of its rounds."""

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
        """Ours to the peer's: the median of the rounds' ratios where both have rounds."""
        return median_ratio(self.ours.value, self.peer.value)


@dataclass(frozen=True, slots=True)
class Target:
    """A value that `targets.toml` has a bound for, by name. `sense` and `bound` are for a suite
    from elsewhere; one of this repository leaves them out."""

    name: str
    value: float
    sense: Literal["<=", ">="] | None = None
    bound: float | None = None


Kind = Literal["recall", "load", "growth"]


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a plot: `points` are (x, y), by x. The kind says on which plot it stands.

    `recall`: queries/s over recall@10. `load`: milliseconds over requests/s. `growth`: what
    `unit` names over a size.
    """

    kind: Kind
    name: str
    unit: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class SuiteReport:
    """What one suite found. `setting` says with what: sizes, seeds, parameters."""

    suite: str
    setting: dict[str, Any]
    figures: Sequence[Figure] = ()
    comparisons: Sequence[Comparison] = ()
    targets: Sequence[Target] = ()
    elapsed_s: float = 0.0
    curves: Sequence[Curve] = ()


def joined(suite: str, parts: Sequence[SuiteReport]) -> SuiteReport:
    """The parts of a suite as one; a setting that several have is that of the last."""
    return SuiteReport(
        suite=suite,
        setting={name: value for part in parts for name, value in part.setting.items()},
        figures=[one for part in parts for one in part.figures],
        comparisons=[one for part in parts for one in part.comparisons],
        targets=[one for part in parts for one in part.targets],
        curves=[one for part in parts for one in part.curves],
    )


@dataclass(frozen=True, slots=True)
class Report:
    """All suites of one run. `seeds` are those that data, questions and arrivals were drawn from;
    `not_run` says of suites and peers that are left out why."""

    machine: Machine
    quick: bool
    started_at: str
    suites: Sequence[SuiteReport] = field(default_factory=tuple)
    seeds: Mapping[str, Sequence[int]] = field(default_factory=dict)
    not_run: Sequence[str] = ()

    def judged(self, targets: Targets) -> list[Judged]:
        """What the suites measured, held against the bounds."""
        measured = [target for suite in self.suites for target in suite.targets]
        return targets.judge(measured, quick=self.quick)

    def to_json(self, targets: Targets) -> dict[str, Any]:
        """For programs: every value with its quartiles and the samples of its rounds, where it has
        them, and verdicts. What is not a number is null."""
        return {
            "schema_version": SCHEMA_VERSION,
            "machine": asdict(self.machine),
            "quick": self.quick,
            "started_at": self.started_at,
            "seeds": {name: list(of) for name, of in self.seeds.items()},
            "not_run": list(self.not_run),
            "suites": [self._suite_json(one, targets) for one in self.suites],
        }

    def _suite_json(self, suite: SuiteReport, targets: Targets) -> dict[str, Any]:
        return {
            "suite": suite.suite,
            "setting": {name: _plain(value) for name, value in suite.setting.items()},
            "elapsed_s": suite.elapsed_s,
            "figures": [_figure_json(one) for one in suite.figures],
            "comparisons": [
                {
                    "name": one.name,
                    "ours": _figure_json(one.ours),
                    "peer": _figure_json(one.peer),
                    "ratio": _value_json(one.ratio),
                }
                for one in suite.comparisons
            ],
            "targets": [
                {
                    "name": one.target.name,
                    **_value_json(one.target.value),
                    "bound": str(one.bound),
                    "source": one.bound.source,
                    "verdict": one.verdict,
                }
                for one in targets.judge(suite.targets, quick=self.quick)
            ],
            "curves": [asdict(one) for one in suite.curves],
        }

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
            lines += ["", *table(suite)]
        if self.not_run:
            lines += ["", "Not run:", "", *(f"- {one}" for one in self.not_run)]
        return "\n".join(lines)

    def target_lines(self, targets: Targets) -> list[str]:
        """One for each target."""
        return [one.line() for one in self.judged(targets)]


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        "name": figure.name,
        **_value_json(figure.value),
        "unit": figure.unit,
        "note": figure.note,
    }


def _value_json(value: float) -> dict[str, Any]:
    samples = samples_of(value)
    return {
        "value": _plain(float(value)),
        "iqr": quartiles(samples),
        "samples": [_plain(one) for one in samples],
    }


def _plain(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(suite: SuiteReport) -> list[str]:
    """A suite's setting, comparisons and figures as Markdown. In parentheses behind a ratio stand
    the quartiles of its rounds."""
    setting = ", ".join(f"{name} {value}" for name, value in suite.setting.items())
    lines = [f"### {suite.suite}", "", f"{setting} ({suite.elapsed_s:.0f} s)", ""]
    if suite.comparisons:
        lines += ["| | ours | peer | ratio | difference |", "|---|---|---|---|---|"]
        for one in suite.comparisons:
            between = f"{one.ours.value - one.peer.value:+.4g} {one.ours.unit}".rstrip()
            lines.append(
                f"| {one.name} | {_shown(one.ours)} | {_shown(one.peer)} "
                f"| {with_quartiles(one.ratio)} | {between} |"
            )
        lines.append("")
    if suite.figures:
        lines += ["| | value | |", "|---|---|---|"]
        lines += [f"| {one.name} | {_number(one)} | {one.note} |" for one in suite.figures]
        lines.append("")
    return lines


def with_quartiles(value: float) -> str:
    """A value for reading, with the quartiles of its rounds where it has them."""
    spread = quartiles(samples_of(value))
    return f"{value:.3g}" + ("" if spread is None else f" ({spread[0]:.3g} to {spread[1]:.3g})")


def _shown(figure: Figure) -> str:
    return f"{_number(figure)} ({figure.name})"


def _number(figure: Figure) -> str:
    value = f"{figure.value:,.0f}" if abs(figure.value) >= 1000 else f"{figure.value:.4g}"
    return f"{value} {figure.unit}".rstrip()
