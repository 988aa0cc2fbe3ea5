"""Builds segments in processes of their own, so that their memory goes back to the system and no
search waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from engine.errors import IndexUnavailable
from engine.types import JsonValue
from services.ending import ended
from services.store.segments import NewSegment, Reason

BUILD_ARGV = (sys.executable, "-P", "-m", "engine.index.building")
"""-P: a folder named `engine` in the working directory is not ours."""

WALL_S = 3600.0
REPORT_BYTES_MAX = 1 << 20
ERROR_BYTES_MAX = 4096
"""What is kept of what a build says before it fails: its end."""
_LAUNCH = Path(__file__).with_name("build_launch.py")
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONFAULTHANDLER": "1",
}
"""Nothing of ours, where URLs with passwords are. One thread builds, so that a build of the same
rows gives the same bytes. What dies in native code says where."""


class BuildFailed(IndexUnavailable):
    """A build ended without a file."""


@dataclass(frozen=True, slots=True)
class BuiltFile:
    """A segment's file. `report` is all that the build said of it, `wall_s` how long it took."""

    path: Path
    sha256: bytes
    rows: int
    size_bytes: int
    wall_s: float
    report: Mapping[str, JsonValue]

    def segment(self, reason: Reason) -> NewSegment:
        """What is published of it."""
        return NewSegment(self.sha256, self.rows, self.size_bytes, reason)


class Builder:
    """Runs builds, at most `parallel` at once; more wait for their turn.

    A build is `argv` and the path of a job file, which names the file to write as `out`. It prints
    one line of JSON with `sha256`, `rows` and `size_bytes`, or fails with a sentence on standard
    error. Job files lie in `directory`. `nice` is 0 to 19, `wall_s` bounds one build.
    """

    def __init__(
        self,
        directory: Path,
        *,
        argv: Sequence[str] = BUILD_ARGV,
        parallel: int = 1,
        nice: int = 10,
        wall_s: float = WALL_S,
    ) -> None:
        self._directory = directory
        self._argv = tuple(argv)
        self._nice = nice
        self._wall_s = wall_s
        self._slots = asyncio.Semaphore(parallel)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="build")
        self._running: set[asyncio.Task[BuiltFile]] = set()
        self._closed = False

    async def build(self, job: Mapping[str, JsonValue]) -> BuiltFile:
        """Build the file `job["out"]`. Cancelled, or with an error, there is no such file.

        Raises BuildFailed.
        """
        out = Path(str(job["out"]))
        async with self._slots:
            if self._closed:
                raise _failed(out, "the node stops", 0)
            task = asyncio.create_task(self._build(job, out), name=f"build {out.name}")
            self._running.add(task)
            try:
                return await task
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                current = asyncio.current_task()
                if current is not None and current.cancelling():
                    raise
                raise _failed(out, "the node stops", 0) from None  # by `close`
            finally:
                self._running.discard(task)
                # A task keeps its error, whose traceback has this frame, and those of who asked,
                # with the segments that were to be merged: a circle, if the frame kept the task.
                del task

    async def close(self) -> None:
        """Ends what is built; later builds are refused."""
        self._closed = True
        await ended(self._running)
        self._threads.shutdown(wait=False)

    async def _build(self, job: Mapping[str, JsonValue], out: Path) -> BuiltFile:
        start_s = time.monotonic()
        try:
            with tempfile.NamedTemporaryFile(
                "w", dir=self._directory, prefix=".job-", suffix=".json"
            ) as file:
                json.dump(job, file)
                file.flush()
                printed, said, code = await self._run(file.name, out)
            if code != 0:
                raise _failed(out, f"it ended with {_exit(code)}: {said}", code)
            return _built(out, printed, time.monotonic() - start_s)
        except OSError as error:
            _discard(out)
            raise _failed(out, f"{error.strerror} ({error.filename})", 0) from error
        except BaseException:
            _discard(out)
            raise

    async def _run(self, job_file: str, out: Path) -> tuple[bytes, str, int]:
        launch = (sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), str(self._nice))
        run = _Run((*launch, *self._argv, job_file))
        running = asyncio.get_running_loop().run_in_executor(self._threads, run)
        try:
            async with asyncio.timeout(self._wall_s):
                printed, said, code = await asyncio.shield(running)
        except TimeoutError:
            raise _failed(out, f"it was not done within {self._wall_s:g} s", 0) from None
        finally:
            if not running.done():
                run.kill()
                await asyncio.wait([running])
        return printed, said.decode("utf-8", "replace").strip(), code


class _Run:
    """One build, which a thread starts and listens to.

    Not the loop: its way to start a process copies the tables of this one's memory, and holds the
    GIL until the other program runs: for 20 ms no search was answered. The thread lives as long as
    the builder, and so the kernel, which ends a build with the thread that started it, does not.
    """

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = argv
        self._killed = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> tuple[bytes, bytes, int]:
        """The ends of what it printed and of what it said, and its exit status."""
        with subprocess.Popen(
            self._argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_ENVIRONMENT,
            start_new_session=True,
        ) as process:
            self._process = process
            if self._killed.is_set():
                self.kill()
            assert process.stdout is not None and process.stderr is not None
            printed, said = _tails(
                (process.stdout, REPORT_BYTES_MAX), (process.stderr, ERROR_BYTES_MAX)
            )
        return printed, said, process.returncode

    def kill(self) -> None:
        """Ends it at once, or as soon as it has begun."""
        self._killed.set()
        process = self._process
        if process is not None and process.poll() is None:
            # Its session is its group, and not reaped it keeps the number.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def _tails(*pipes: tuple[IO[bytes], int]) -> list[bytes]:
    """The last so many bytes of each pipe, once all are closed at the other end."""
    kept = [b""] * len(pipes)
    with selectors.DefaultSelector() as selector:
        for index, (pipe, _) in enumerate(pipes):
            selector.register(pipe, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select():
                piece = os.read(key.fd, 1 << 16)
                if not piece:
                    selector.unregister(key.fileobj)
                index = key.data
                kept[index] = (kept[index] + piece)[-pipes[index][1] :]
    return kept


def _built(out: Path, printed: bytes, wall_s: float) -> BuiltFile:
    try:
        report = json.loads(printed.splitlines()[-1])
        sha256, rows, size_bytes = (
            bytes.fromhex(report["sha256"]),
            int(report["rows"]),
            int(report["size_bytes"]),
        )
    except (ValueError, LookupError, TypeError) as error:
        raise _failed(out, "it did not say what it built", 0) from error
    present = out.stat().st_size
    if len(sha256) != 32 or rows < 0 or size_bytes != present:
        raise _failed(out, f"it spoke of {size_bytes} bytes and the file has {present}", 0)
    return BuiltFile(out, sha256, rows, size_bytes, wall_s, report)


def _discard(out: Path) -> None:
    out.unlink(missing_ok=True)


def _failed(out: Path, why: str, code: int) -> BuildFailed:
    said = why.rstrip(".")
    return BuildFailed(
        f"Segment {out.name} could not be built: {said}. The rows are searched without it.",
        metadata={"path": str(out), "why": why, "exit_status": code},
    )


def _exit(code: int) -> str:
    """In words: "exit status 1", "SIGKILL"."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
