"""A quick run beside `baselines.json`: whether a ratio became worse by more than noise.

Only ratios are kept, of two things measured in turns in one run, so that a baseline holds on any
machine that is not of another kind. Each has a tolerance as a share of itself, wide enough for a
shared machine: what is guarded against is a call that became half as fast, not a tenth. A ratio
that is too bad is measured once more, and counts only if it is again.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare import Better, better_of
from benchmarks.report import SuiteReport

FILE = Path(__file__).with_name("baselines.json")

Found = tuple[list[SuiteReport], dict[str, str]]
Run = Callable[[Sequence[str]], Found]
"""Runs suites quickly: what they found, and of those that could not run, why."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A comparison's ratio, ours to the other side's, and how far a worse one may be from it: with
    a tolerance of 1, twice as much, or half of it where higher is better."""

    suite: str
    comparison: str
    ratio: float
    tolerance: float

    def allows(self, ratio: float, better: Better) -> bool:
        """NaN is not allowed."""
        if better == "lower":
            return ratio <= self.ratio * (1 + self.tolerance)
        return ratio >= self.ratio / (1 + self.tolerance)

    def told(self, ratio: float) -> str:
        """For people: the ratio beside the baseline's."""
        name = f"{self.suite}: {self.comparison}"
        return f"{name}: {ratio:.3g}, baseline {self.ratio:.3g}, tolerance {self.tolerance:.0%}"


def main(arguments: Sequence[str], run: Run) -> int:
    """0 where nothing is worse, 1 where something is, twice, or where a suite could not run or
    nothing was measured. With
    `--update`, writes the ratios of this run in place of the baselines', and keeps tolerances."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks guard", description=__doc__)
    parser.add_argument("--update", action="store_true", help="make this run the baseline")
    given = parser.parse_args(arguments)
    baselines = read_baselines()
    suites = sorted({one.suite for one in baselines})
    found, failed = run(suites)
    if given.update and not failed:
        write_baselines(updated(baselines, found))
        return 0
    worse, missing = judged(baselines, found)
    if worse:
        print("again, because of:", *(one.told(ratio) for one, ratio in worse), sep="\n  ")
        again, failed_again = run(sorted({one.suite for one, _ in worse}))
        failed |= failed_again
        worse, _ = judged([one for one, _ in worse], again)
    for line in (*failed.values(), *(f"not measured: {one}" for one in missing)):
        print(line)
    for one, ratio in worse:
        print(f"worse: {one.told(ratio)}")
    nothing = len(missing) == len(baselines)
    if not worse and not failed:
        print(f"{len(baselines) - len(missing)} ratios are within their tolerance")
    return 1 if worse or failed or nothing else 0


def judged(
    baselines: Sequence[Baseline], found: Sequence[SuiteReport]
) -> tuple[list[tuple[Baseline, float]], list[str]]:
    """Those that are worse with their ratios, and the names of those that no suite measured, such
    as of a peer that is not installed."""
    ratios = {
        (suite.suite, one.name): (one.ratio, better_of(one.ours.unit))
        for suite in found
        for one in suite.comparisons
    }
    worse, missing = [], []
    for one in baselines:
        ratio, better = ratios.get((one.suite, one.comparison), (math.nan, "lower"))
        if math.isnan(ratio):
            missing.append(f"{one.suite}: {one.comparison}")
        elif not one.allows(ratio, better):
            worse.append((one, ratio))
    return worse, missing


def updated(baselines: Sequence[Baseline], found: Sequence[SuiteReport]) -> list[Baseline]:
    """With this run's ratios; a comparison that it lacks keeps its own."""
    ratios = {(suite.suite, one.name): one.ratio for suite in found for one in suite.comparisons}
    changed = []
    for one in baselines:
        ratio = ratios.get((one.suite, one.comparison), math.nan)
        kept = one.ratio if math.isnan(ratio) else float(f"{ratio:.3g}")
        changed.append(Baseline(one.suite, one.comparison, kept, one.tolerance))
    return changed


def read_baselines(file: Path = FILE) -> list[Baseline]:
    """Raises ValueError that names what is wrong with a row."""
    told: Mapping[str, Mapping[str, Mapping[str, float]]] = json.loads(file.read_text())
    found = []
    for suite, rows in told.items():
        for name, row in rows.items():
            if set(row) != {"ratio", "tolerance"} or not all(v > 0 for v in row.values()):
                raise ValueError(f"{suite}: {name}: needs a ratio and a tolerance, both above 0")
            found.append(Baseline(suite, name, row["ratio"], row["tolerance"]))
    return found


def write_baselines(baselines: Sequence[Baseline], file: Path = FILE) -> None:
    """In their order."""
    told: dict[str, dict[str, dict[str, float]]] = {}
    for one in baselines:
        rows = told.setdefault(one.suite, {})
        rows[one.comparison] = {"ratio": one.ratio, "tolerance": one.tolerance}
    file.write_text(json.dumps(told, indent=2) + "\n")
    print(file, file=sys.stderr)
