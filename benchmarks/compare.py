"""Two reports, figure by figure: what became better or worse by more than the noise of both.

A figure has a verdict only where both runs measured it in five rounds or more. No round of the one
may lie among the other's, and the medians must be apart by more than both spreads (the distances
between their quartiles) together, and by more than a hundredth of the older one. Of equal normal
noise on both sides that lets 1 in 200 figures of five rounds through, and 1 in 7,000 of seven.

Times, rates and sizes of two machines say nothing of two versions: where the machines differ, only
ratios are compared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from benchmarks.report import Report
from benchmarks.samples import quartiles, samples_of
from benchmarks.targets import Targets

SAMPLES_MIN = 5
FLOOR = 0.01
"""Of the older median: less is no difference, whatever the spreads."""

Better = Literal["lower", "higher"]
Change = Literal["better", "worse", "within the noise", "not repeated"]

_LOWER = ("ms", "s", "us", "µs", "bytes", "KiB", "MiB", "MB", "GiB", "GB")


class NotComparable(Exception):
    """Two reports that cannot be held beside each other; the message says why."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A value of one report, a `Median` where it was repeated, and which way is better."""

    name: str
    value: float
    better: Better
    is_ratio: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """One figure of both reports."""

    name: str
    old: float
    new: float
    change: Change

    def line(self) -> str:
        """For people and programs: the verdict first."""
        share = f"{self.new / self.old - 1:+.1%}" if self.old else "from 0"
        return f"{self.change:<16} {self.name}: {self.old:.4g} -> {self.new:.4g} ({share})"


def better_of(unit: str) -> Better:
    """Times and sizes are better when lower; rates and qualities, which have no unit, higher."""
    return "lower" if unit in _LOWER else "higher"


def compare(old: Report, new: Report, targets: Targets) -> tuple[list[Changed], list[str]]:
    """What both reports measured, in the older one's order, and words about what was left out.
    Raises NotComparable for a quick run beside a whole one."""
    if old.quick != new.quick:
        raise NotComparable("one run is quick and the other is not: their sizes differ")
    same = _machine(old) == _machine(new)
    said = [] if same else [f"{_machine(old)} and {_machine(new)} differ: only ratios are compared"]
    before = {one.name: one for one in measured(old, targets)}
    after = {one.name: one for one in measured(new, targets)}
    gone = [name for name in before if name not in after]
    if gone:
        said.append(f"only in the older report: {', '.join(gone)}")
    changed = [
        Changed(name, one.value, after[name].value, change(one, after[name]))
        for name, one in before.items()
        if name in after and (same or one.is_ratio)
    ]
    return changed, said


def change(old: Measured, new: Measured) -> Change:
    """Beyond the noise of both, or not."""
    rounds = [samples_of(one.value) for one in (old, new)]
    spreads = [quartiles(one) for one in rounds]
    if min(map(len, rounds)) < SAMPLES_MIN or None in spreads:
        return "not repeated"
    noise = sum(high - low for low, high in filter(None, spreads))
    among = max(map(min, rounds)) <= min(map(max, rounds))
    if among or abs(new.value - old.value) <= max(noise, FLOOR * abs(old.value)):
        return "within the noise"
    return "better" if (new.value > old.value) == (old.better == "higher") else "worse"


def measured(report: Report, targets: Targets) -> list[Measured]:
    """Every figure, ratio and target of a report that is a number."""
    found = []
    for suite in report.suites:
        for figure in suite.figures:
            name = f"{suite.suite}: {figure.name}"
            found.append(Measured(name, figure.value, better_of(figure.unit), False))
        for one in suite.comparisons:
            name = f"{suite.suite}: {one.name}, ratio"
            found.append(Measured(name, one.ratio, better_of(one.ours.unit), True))
        for judged in targets.judge(suite.targets):
            target, lower = judged.target, judged.bound.sense == "<="
            is_ratio = "_over_" in target.name and not target.name.endswith("ms")
            better: Better = "lower" if lower else "higher"
            found.append(Measured(target.name, target.value, better, is_ratio))
    return [one for one in found if not math.isnan(one.value)]


def _machine(report: Report) -> str:
    return f"{report.machine.cores} cores of {report.machine.cpu}"
