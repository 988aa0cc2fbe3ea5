"""The commands beside suites: `compare`, `report`, and `guard`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.compare import Change, NotComparable, compare
from benchmarks.page import write_page
from benchmarks.results import NoReport, read_report
from benchmarks.targets import read_targets

PAGE = Path(__file__).with_name("REPORT.md")


def compare_reports(arguments: Sequence[str]) -> int:
    """Prints what lies outside of the noise, or all with `--all`. 1 where something became worse,
    2 where the two cannot be compared, else 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare")
    parser.add_argument("old", type=Path, metavar="OLD.json")
    parser.add_argument("new", type=Path, metavar="NEW.json")
    parser.add_argument("--all", action="store_true", help="what lies within the noise as well")
    given = parser.parse_args(arguments)
    try:
        changed, said = compare(read_report(given.old), read_report(given.new), read_targets())
    except (NoReport, NotComparable) as error:
        print(error, file=sys.stderr)
        return 2
    for one in changed:
        if given.all or one.change in ("better", "worse"):
            print(one.line())
    counts: dict[Change, int] = {"better": 0, "worse": 0, "within the noise": 0, "not repeated": 0}
    for one in changed:
        counts[one.change] += 1
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    for line in said:
        print(line)
    return 1 if counts["worse"] else 0


def write_report(arguments: Sequence[str]) -> int:
    """Writes the page and its plots beside it. 2 where the file is no report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks report")
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("--out", type=Path, default=PAGE, metavar="FILE.md")
    given = parser.parse_args(arguments)
    try:
        report = read_report(given.results)
    except NoReport as error:
        print(error, file=sys.stderr)
        return 2
    for file in write_page(report, read_targets(), given.out):
        print(file)
    return 0


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "compare": compare_reports,
    "report": write_report,
}
