"""Load on the retrieval service from a process of its own, which sends prepared bytes: `python -m
benchmarks.pressure` reads what to send, in JSON, and prints what came of it.

Without `arrivals_s` a load is closed: `in_flight` callers send the next request when they have an
answer, all requests once, or around for `seconds`. With them it is open, as in `load.py`: a latency
counts from when its request was due.

It ends early, and says what it has, when its standard input ends: so it never outlives the run.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc
import uvloop

from benchmarks import requests
from benchmarks.load import percentile_ms

CALL_TIMEOUT_S = 120.0
_CHANNELS_MAX = 4
_RETRY_S = 0.1


@dataclass(frozen=True, slots=True)
class Load:
    """`file` holds the requests (`requests.write`). `seconds` 0 sends each once; else they are
    sent around. `cores` are where the process may run, all if empty. `retry` sends a request again
    that was refused before it did anything (RESOURCE_EXHAUSTED), as the SDK does."""

    address: str
    method: str
    file: str
    in_flight: int = 1
    seconds: float = 0.0
    arrivals_s: Sequence[float] = ()
    keep_replies: bool = False
    retry: bool = False
    cores: Sequence[int] = ()


@dataclass(slots=True)
class Outcome:
    """Latencies in the order of the answers; `ok` answers; failures by status with one message;
    `elapsed_s` until the last answer; replies (base64) where they were asked for; `retried`
    refusals."""

    latencies_ms: list[float] = field(default_factory=list)
    ok: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    failure: str = ""
    elapsed_s: float = 0.0
    retried: int = 0
    replies: list[str] = field(default_factory=list)

    def percentile_ms(self, percent: float) -> float:
        """NaN where nothing was answered."""
        return percentile_ms(self.latencies_ms, percent)

    @property
    def failed(self) -> int:
        """Of all statuses."""
        return sum(self.failures.values())

    def check(self) -> Outcome:
        """Itself. Raises RuntimeError with the first failure's own words if there was one."""
        if self.failed:
            raise RuntimeError(f"{self.failed} calls failed: {self.failures}: {self.failure}")
        return self


class Pressure:
    """A running load; a context that leaves no process. It says when it is connected before it
    is made, so that what follows meets a load that is there."""

    def __init__(self, load: Load) -> None:
        self._reader: threading.Thread | None = None
        self._said = ""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.pressure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(load)) + "\n")
        self._process.stdin.flush()
        if self._process.stdout.readline() != "connected\n":
            self._end()
            raise RuntimeError(f"no connection with {load.address}; see standard error")
        # Read at once: it would wait for a reader before it ends.
        self._reader = threading.Thread(target=self._read, name="pressure", daemon=True)
        self._reader.start()

    def __enter__(self) -> Pressure:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def wait(self) -> Outcome:
        """What came of it, once all was sent and answered. Raises RuntimeError."""
        if self._reader is not None:
            self._reader.join()
        if not self._said:
            self._end()
            raise RuntimeError(f"the load ended with {self._process.returncode}")
        return Outcome(**json.loads(self._said))

    def stop(self) -> Outcome:
        """Sends nothing more; what came of it so far, answers in flight included."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait()

    def running(self) -> bool:
        """Whether it has more to send, or to hear."""
        return self._reader is not None and self._reader.is_alive()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self._said = self._process.stdout.readline()

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def put(load: Load) -> Outcome:
    """All of a load. Raises RuntimeError."""
    with Pressure(load) as pressure:
        return pressure.wait()


class _Sender:
    def __init__(self, load: Load) -> None:
        self._load = load
        self._requests = requests.read(Path(load.file))
        if not self._requests:
            raise ValueError(f"{load.file} holds no request")
        self._channels = [
            grpc.aio.insecure_channel(
                load.address,
                options=[
                    ("grpc.max_receive_message_length", -1),
                    ("grpc.max_send_message_length", -1),
                    ("grpc.use_local_subchannel_pool", 1),
                ],
            )
            for _ in range(min(load.in_flight, _CHANNELS_MAX))
        ]
        self._calls: list[Any] = [one.unary_unary(load.method) for one in self._channels]
        self._next = 0
        self.over = asyncio.Event()
        self.outcome = Outcome()

    async def connect(self) -> None:
        await asyncio.gather(*(one.channel_ready() for one in self._channels))

    async def run(self) -> None:
        begin_s = time.perf_counter()
        if self._load.arrivals_s:
            await self._open(begin_s)
        else:
            callers = (self._caller(n, begin_s) for n in range(self._load.in_flight))
            await asyncio.gather(*callers)
        await asyncio.gather(*(one.close() for one in self._channels))

    async def _caller(self, caller: int, begin_s: float) -> None:
        load = self._load
        while not self.over.is_set():
            number = self._next
            if load.seconds and time.perf_counter() - begin_s >= load.seconds:
                return
            if not load.seconds and number >= len(self._requests):
                return
            self._next += 1
            await self._send(number, caller, time.perf_counter(), begin_s)

    async def _open(self, begin_s: float) -> None:
        async with asyncio.TaskGroup() as sent:
            for number, arrival_s in enumerate(self._load.arrivals_s):
                due_s = begin_s + arrival_s
                try:
                    async with asyncio.timeout(max(0.0, due_s - time.perf_counter())):
                        await self.over.wait()
                    return
                except TimeoutError:
                    sent.create_task(self._send(number, number, due_s, begin_s))

    async def _send(self, number: int, caller: int, from_s: float, begin_s: float) -> None:
        request = bytes(self._requests[number % len(self._requests)])
        try:
            reply = await self._reply(self._calls[caller % len(self._calls)], request)
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            self.outcome.failures[code] = self.outcome.failures.get(code, 0) + 1
            self.outcome.failure = self.outcome.failure or (error.details() or "")
            return
        end_s = time.perf_counter()
        self.outcome.ok += 1
        self.outcome.latencies_ms.append((end_s - from_s) * 1000)
        self.outcome.elapsed_s = end_s - begin_s
        if self._load.keep_replies:
            self.outcome.replies.append(base64.b64encode(reply).decode())

    async def _reply(self, call: Any, request: bytes) -> bytes:
        end_s = time.perf_counter() + CALL_TIMEOUT_S
        while True:
            try:
                reply: bytes = await call(request, timeout=CALL_TIMEOUT_S)
                return reply
            except grpc.aio.AioRpcError as error:
                full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                if not (self._load.retry and full and time.perf_counter() < end_s):
                    raise
            self.outcome.retried += 1
            await asyncio.sleep(_RETRY_S)


async def _serve(load: Load) -> Outcome:
    sender = _Sender(load)
    await sender.connect()
    print("connected", flush=True)
    loop = asyncio.get_running_loop()
    # When the run ends, however it does, so does its half of the pipe.
    loop.add_reader(sys.stdin.fileno(), sender.over.set)
    await sender.run()
    loop.remove_reader(sys.stdin.fileno())
    return sender.outcome


def _first_line() -> bytes:
    """Byte by byte, so that nothing but the end is left for the loop to see."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:
        return unbuffered.readline()


def main() -> None:
    """Reads the load, says when it is connected, then what came of it."""
    load = Load(**json.loads(_first_line()))
    if load.cores:
        os.sched_setaffinity(0, load.cores)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(_serve(load))
    said = memoryview(json.dumps(asdict(outcome)).encode() + b"\n")
    while said:  # a pipe takes less at a time, and of 300 KB `print` lost the rest now and then
        said = said[os.write(sys.stdout.fileno(), said) :]
    os._exit(0)


if __name__ == "__main__":
    main()
