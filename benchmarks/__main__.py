"""`python -m benchmarks [suite …] [--json FILE] [--quick] [--points N] [--minutes N]
[--parts A,B]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import grpc
from ragmesh import RagmeshError

from benchmarks import machine
from benchmarks.bench import Bench, Options
from benchmarks.data import DataMissing
from benchmarks.report import Report, SuiteReport
from benchmarks.suites import SUITES
from engine.errors import RagmeshError as ServerError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the suites and prints tables, then targets. 0 whether they are met or not, 1 where a
    suite could not run; the others run all the same."""
    given = _parser().parse_args(arguments)
    report = Report(
        machine=machine.describe(),
        quick=given.quick,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    found: list[SuiteReport] = []
    failed: list[str] = []
    with Bench(_options(given), _say) as bench:
        for name in given.suites or SUITES:
            _say(f"suite {name}")
            begin_s = time.perf_counter()
            try:
                one = SUITES[name](bench)
            except (
                DataMissing,
                RagmeshError,
                ServerError,
                grpc.RpcError,
                AssertionError,
                RuntimeError,
                OSError,
            ) as error:
                _say(f"suite {name} failed: {type(error).__name__}: {error}")
                failed.append(name)
                continue
            found.append(replace(one, elapsed_s=time.perf_counter() - begin_s))
    report = replace(report, suites=tuple(found))
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report.to_json(), indent=2) + "\n")
    print(report.to_markdown())
    print()
    for line in report.target_lines():
        print(line)
    if failed:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _options(given: argparse.Namespace) -> Options:
    parts = tuple(name for name in given.parts.split(",") if name)
    return Options(given.quick, given.points, given.minutes, parts)


def _suite(name: str) -> str:
    # Not `choices`: before Python 3.12, argparse looks for "no suite at all" among them.
    if name not in SUITES:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(SUITES)}")
    return name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "suites",
        nargs="*",
        type=_suite,
        metavar="suite",
        help=", ".join(SUITES) + "; all by default",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go as JSON")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: shows that suites run, judges nothing"
    )
    parser.add_argument(
        "--points", type=int, default=0, metavar="N", help="of the suite scale; 1,000,000"
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of sustained writes in the suite scale; 5"
    )
    parser.add_argument(
        "--parts", default="", metavar="A,B", help="of scale or ingest; all by default"
    )
    return parser


def _say(text: str) -> None:
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
