"""The report that people read: one Markdown page, and its plots beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from benchmarks.compare import better_of
from benchmarks.plots import plots
from benchmarks.report import Comparison, Report, SuiteReport, table, with_quartiles
from benchmarks.targets import Judged, Targets

PLOTS = "plots"
_VERDICTS = {"met": "met", "missed": "**missed**", "unmeasured": "not measured"}
_CAPTIONS = {
    "recall": "Queries a second over the recall that they had, one point for each beam.",
    "load": "Milliseconds from when a request was due to its answer, over the rate at which "
    "requests came.",
    "growth": "Logarithmic axes; a straight line is a power of the size.",
    "quality": "nDCG@10 of each way to search, by data set.",
}


def write_page(report: Report, targets: Targets, file: Path) -> list[Path]:
    """Writes the page and a folder `plots` beside it; returns the files."""
    drawn = plots(report)
    folder = file.parent / PLOTS
    folder.mkdir(parents=True, exist_ok=True)
    written = [file]
    for name, svg in drawn.items():
        written.append(folder / f"{name}.svg")
        written[-1].write_text(svg, encoding="utf-8")
    file.write_text(page(report, targets, sorted(drawn)), encoding="utf-8")
    return written


def page(report: Report, targets: Targets, drawn: Sequence[str]) -> str:
    """The page's Markdown; `drawn` are the plots that stand in its folder."""
    judged = {one.target.name: one for one in report.judged(targets)}
    sections = [
        _head(report),
        _headline(targets, judged),
        _all_targets(targets, judged, quick=report.quick),
        _ahead(report),
        _plots(drawn),
        _not_run(report),
        ["## Suites", *(line for one in report.suites for line in ("", *table(one)))],
    ]
    return "\n".join(line for section in sections for line in (*section, "")).rstrip() + "\n"


def _head(report: Report) -> list[str]:
    machine = report.machine
    lines = [
        "# What the benchmarks found",
        "",
        f"Written by `python -m benchmarks report` from one run, {report.started_at}, commit "
        f"{machine.commit or 'unknown'}: {machine.cores} cores of {machine.cpu}, "
        f"{machine.memory_gib:g} GiB, {machine.system}, Python {machine.python}, load before the "
        f"start {machine.load_1m:g}.",
        "",
        "A machine is noisy, so a claim is a ratio of two things measured in turns in one run. "
        "A value is the median of its rounds; their quartiles stand in parentheses. "
        "benchmarks/README.md has the method.",
    ]
    if machine.busy:
        lines += ["", "**The machine was busy before the start: times are doubtful.**"]
    if report.quick:
        lines += ["", "**A quick run: sizes are too small for the targets; nothing is judged.**"]
    return lines


def _headline(targets: Targets, judged: dict[str, Judged]) -> list[str]:
    lines = ["## Ratios", "", "| | ours to theirs | target | |", "|---|---|---|---|"]
    for name, bound in targets.bounds.items():
        if bound.headline:
            lines.append(
                f"| {bound.headline} | {_value(judged.get(name))} | {bound} | "
                f"{_verdict(judged.get(name))} |"
            )
    return lines


def _all_targets(targets: Targets, judged: dict[str, Judged], *, quick: bool) -> list[str]:
    counts = dict.fromkeys(("met", "missed", "not measured"), 0)
    rows = []
    for name, bound in targets.bounds.items():
        one = judged.get(name)
        verdict = _verdict(one)
        counts[verdict.strip("*")] = counts.get(verdict.strip("*"), 0) + 1
        cause = ""
        if one is not None and one.verdict == "missed":
            cause = targets.causes.get(name, "no cause is known yet")
        rows.append(
            f"| `{name}` | {_value(one)} | {bound} | {verdict} | {bound.source} | {cause} |"
        )
    told = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [
        "## Targets",
        "",
        f"{len(rows)} targets: {told}." + (" Nothing is judged in a quick run." if quick else ""),
        "",
        "| | measured | target | | who asks for it | cause |",
        "|---|---|---|---|---|---|",
        *rows,
    ]


def _ahead(report: Report) -> list[str]:
    """Every comparison that the other side wins."""
    rows = [
        f"| {suite.suite} | {one.name} | {one.peer.name} | {with_quartiles(one.ratio)} |"
        for suite in report.suites
        for one in suite.comparisons
        if is_ahead(one)
    ]
    lines = ["## Where the other side is ahead", ""]
    if not rows:
        return [*lines, "In no comparison of this run."]
    return [*lines, "| suite | | the other side | ours to theirs |", "|---|---|---|---|", *rows]


def is_ahead(one: Comparison) -> bool:
    """Whether the peer has the better value; of times and sizes the lower one is."""
    if math.isnan(one.ratio):
        return False
    return one.ratio > 1 if better_of(one.ours.unit) == "lower" else one.ratio < 1


def _plots(drawn: Sequence[str]) -> list[str]:
    lines = ["## Plots"]
    for name, caption in _CAPTIONS.items():
        shown = (
            f"![{caption}]({PLOTS}/{name}.svg)" if name in drawn else "Not measured in this run."
        )
        lines += ["", f"### {name.capitalize()}", "", caption, "", shown]
    return lines


def _not_run(report: Report) -> list[str]:
    told = [*report.not_run, *(line for one in report.suites for line in _left_out(one))]
    lines = ["## Not run", ""]
    return [*lines, *(f"- {one}" for one in told)] if told else [*lines, "Nothing was left out."]


def _left_out(suite: SuiteReport) -> list[str]:
    return [
        f"{suite.suite}: {value}"
        for name, value in suite.setting.items()
        if name.endswith("not run")
    ]


def _value(one: Judged | None) -> str:
    if one is None or math.isnan(one.target.value):
        return "-"
    return with_quartiles(one.target.value)


def _verdict(one: Judged | None) -> str:
    return "not measured" if one is None else _VERDICTS.get(one.verdict, one.verdict)
