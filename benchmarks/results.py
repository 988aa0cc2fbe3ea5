"""A report from the file that `--json` wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.machine import Machine
from benchmarks.report import (
    SCHEMA_VERSION,
    Comparison,
    Curve,
    Figure,
    Report,
    SuiteReport,
    Target,
)
from benchmarks.samples import Median


class NoReport(Exception):
    """A file that is no report of this version; the message names it and says what is wrong."""


def read_report(file: Path) -> Report:
    """Figures, rounds and machine as they were measured; verdicts are for whoever has the bounds
    now. Raises NoReport."""
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        version = document["schema_version"]
        if version == SCHEMA_VERSION:
            return _report(document)
    except OSError as error:
        raise NoReport(f"{file} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NoReport(f"{file} is no report: {type(error).__name__}: {error}") from error
    raise NoReport(f"{file} has version {version}, not {SCHEMA_VERSION}: run the suites again")


def _report(document: Mapping[str, Any]) -> Report:
    return Report(
        machine=Machine(**document["machine"]),
        quick=document["quick"],
        started_at=document["started_at"],
        suites=tuple(map(_suite, document["suites"])),
        seeds=document["seeds"],
        not_run=document["not_run"],
    )


def _suite(one: Mapping[str, Any]) -> SuiteReport:
    return SuiteReport(
        suite=one["suite"],
        setting=one["setting"],
        figures=[_figure(figure) for figure in one["figures"]],
        comparisons=[
            Comparison(pair["name"], _figure(pair["ours"]), _figure(pair["peer"]))
            for pair in one["comparisons"]
        ],
        targets=[Target(target["name"], _value(target)) for target in one["targets"]],
        elapsed_s=one["elapsed_s"],
        curves=[
            Curve(of["kind"], of["name"], of["unit"], [(x, y) for x, y in of["points"]])
            for of in one["curves"]
        ],
    )


def _figure(one: Mapping[str, Any]) -> Figure:
    return Figure(one["name"], _value(one), one["unit"], one["note"])


def _value(one: Mapping[str, Any]) -> float:
    if one["samples"]:
        return Median([_number(sample) for sample in one["samples"]])
    return _number(one["value"])


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
