"""How long `ragmesh up` takes to be ready, and `ragmesh demo` from beginning to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.bench import Bench
from benchmarks.report import Figure, SuiteReport, Target
from services.local.directory import find_holder

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
DEMO_TIMEOUT_S = 600.0
_POLL_S = 0.01


def up(bench: Bench) -> SuiteReport:
    """The first start makes the data directory and converts the model, the others find both."""
    rounds = 1 if bench.quick else 3
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        bench.say("starting `ragmesh up` in a new directory, then again")
        cold_s, _ = timed_up(Path(folder) / "data")
        warm = [timed_up(Path(folder) / "data") for _ in range(rounds)]
    ready_s = float(np.median([ready for ready, _ in warm]))
    return SuiteReport(
        suite="up",
        setting={"rounds": rounds, "ready": "answers through every door, in its own words"},
        figures=[
            Figure("ready, model converted", ready_s, "s", "median"),
            Figure("ready, new directory", cold_s, "s", "initdb and conversion included"),
            Figure("stopped after Ctrl-C", float(np.median([stop for _, stop in warm])), "s"),
        ],
        targets=[Target("up_ready_s", ready_s)],
    )


def demo(bench: Bench) -> SuiteReport:
    """Runs the command as a user would; a failure of it is a failure of the suite."""
    bench.say("running `ragmesh demo`")
    limit = ("--limit", "20") if bench.quick else ()
    begin_s = time.perf_counter()
    done = subprocess.run(
        [*_COMMAND, "demo", "--json", *limit],
        capture_output=True,
        text=True,
        timeout=DEMO_TIMEOUT_S,
    )
    elapsed_s = time.perf_counter() - begin_s
    if done.returncode:
        raise RuntimeError(f"`ragmesh demo` ended with {done.returncode}: {done.stderr[-2000:]}")
    said = json.loads(done.stdout)
    return SuiteReport(
        suite="demo",
        setting={"command": " ".join(("ragmesh demo --json", *limit))},
        figures=[
            Figure("all of it", elapsed_s, "s", "from the command to its end"),
            *(Figure(f"… {name}", float(value), "s") for name, value in said["seconds"].items()),
        ],
        targets=[Target("demo_s", elapsed_s)],
    )


_COMMAND = (sys.executable, "-P", "-m", "services.cli")


def timed_up(data_dir: Path, *words: str) -> tuple[float, float]:
    """Seconds from the command until it is ready, and from Ctrl-C until it has ended."""
    with running_up(data_dir, *words) as (process, _, ready_s):
        begin_s = time.perf_counter()
        process.send_signal(signal.SIGINT)
        process.wait(STOP_TIMEOUT_S)
        return ready_s, time.perf_counter() - begin_s


@contextmanager
def running_up(
    data_dir: Path, *words: str
) -> Iterator[tuple[subprocess.Popen[bytes], Mapping[str, str], float]]:
    """`ragmesh up` with these words, its addresses by name, and the seconds until it was ready.

    Ready is when it says its addresses, which it does when a question would be answered through
    every door. Raises RuntimeError with the end of what it printed where it does not get there.
    """
    with tempfile.TemporaryFile() as printed:
        begin_s = time.perf_counter()
        command = [*_COMMAND, "up", *words, "--data-dir", str(data_dir)]
        with _running(command, printed.fileno()) as process:
            while not ((holder := find_holder(data_dir)) and holder.addresses):
                if process.poll() is not None or time.perf_counter() - begin_s > READY_TIMEOUT_S:
                    printed.seek(0)
                    tail = printed.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"`ragmesh up` was not ready: {tail}")
                time.sleep(_POLL_S)
            yield process, holder.addresses, time.perf_counter() - begin_s


@contextmanager
def _running(command: list[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that does not outlive the context; its parts are tied to its own life, and its
    nodes on Ray end when it is told to stop."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=dict(os.environ)
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
