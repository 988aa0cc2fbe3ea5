"""`python -m benchmarks [suite …]` measures; `compare OLD.json NEW.json` and
`report RESULTS.json` read what was measured; `guard` holds a quick run beside the baselines."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from ragmesh import RagmeshError

from benchmarks import commands, guard, machine
from benchmarks.bench import Bench, Options
from benchmarks.data import DataMissing
from benchmarks.peers.environment import BY_ADDRESS, not_reached
from benchmarks.report import Report, SuiteReport
from benchmarks.seeds import seeds
from benchmarks.suites import SUITES
from benchmarks.targets import read_targets
from engine.errors import RagmeshError as ServerError

GUARD = "guard"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs suites, or one of the commands that read their results."""
    told = list(sys.argv[1:] if arguments is None else arguments)
    if told[:1] and told[0] in commands.COMMANDS:
        return commands.COMMANDS[told[0]](told[1:])
    if told[:1] == [GUARD]:
        return guard.main(told[1:], lambda suites: run(suites, Options(quick=True)))
    return measure(_parser().parse_args(told))


def measure(given: argparse.Namespace) -> int:
    """Runs the suites and prints tables, then targets. 0 whether they are met or not, 1 where a
    suite could not run; the others run all the same."""
    report = Report(
        machine=machine.describe(),
        quick=given.quick,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        seeds=seeds(),
    )
    targets = read_targets()
    options = _options(given)
    suites = given.suites or list(SUITES)
    found, failed = run(suites, options)
    unasked = not_reached(suites, options.peers)
    report = replace(report, suites=tuple(found), not_run=[*failed.values(), *unasked])
    if given.json is not None:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps(report.to_json(targets), indent=2) + "\n")
    print(report.to_markdown())
    print()
    for line in report.target_lines(targets):
        print(line)
    if failed:
        _say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def run(suites: Sequence[str], options: Options) -> tuple[list[SuiteReport], dict[str, str]]:
    """What the suites found, and of those that could not run, why."""
    found: list[SuiteReport] = []
    failed: dict[str, str] = {}
    with Bench(options, _say) as bench:
        for name in suites:
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
                failed[name] = f"suite {name} failed: {type(error).__name__}: {error}"
                _say(failed[name])
                continue
            found.append(replace(one, elapsed_s=time.perf_counter() - begin_s))
    return found, failed


def _options(given: argparse.Namespace) -> Options:
    parts = tuple(name for name in given.parts.split(",") if name)
    return Options(
        given.quick, given.points, given.minutes, parts, tuple(given.data), dict(given.peer)
    )


def _suite(name: str) -> str:
    # Not `choices`: before Python 3.12, argparse looks for "no suite at all" among them.
    if name not in SUITES:
        raise argparse.ArgumentTypeError(
            f"{name!r} is none of {', '.join(SUITES)}; commands are "
            f"{', '.join((*commands.COMMANDS, GUARD))}, and come first"
        )
    return name


def _peer(told: str) -> tuple[str, str]:
    name, _, url = told.partition("=")
    if name not in BY_ADDRESS:
        raise argparse.ArgumentTypeError(
            f"{name!r} is no peer that is reached by an address; {', '.join(BY_ADDRESS)} are"
        )
    try:
        parts = urlsplit(url)
        reachable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        reachable = False
    if not reachable:
        raise argparse.ArgumentTypeError(f"{url!r} is no URL; give {name}=http://host:port")
    return name, url.rstrip("/")


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
    parser.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="a data set in BEIR's layout for quality, in place of its own; may be given again",
    )
    parser.add_argument(
        "--peer",
        type=_peer,
        action="append",
        default=[],
        metavar="NAME=URL",
        help=f"a server that runs elsewhere: {', '.join(BY_ADDRESS)}; may be given again",
    )
    return parser


def _say(text: str) -> None:
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
