"""Load on an embedding service, from a process of its own that does little: `python -m
benchmarks.load` reads an address and jobs, in JSON, and prints what came of them.

A closed job has callers who each send the next request when they have an answer. An open job
sends at the times it was given, whatever comes back, and its latencies count from those times, so
that a service that stalls is charged for those who would have come meanwhile (Schroeder et al.,
"Open Versus Closed: A Cautionary Tale", NSDI 2006). Beside closed jobs, open ones end with them.

Requests are bytes before the clock starts, and answers are not decoded: two cores are shared with
what is measured.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import numpy as np
import uvloop
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

METHOD = "/ragmesh.api.embedding.v1.EmbeddingService/EmbedTexts"
CALL_TIMEOUT_S = 240.0
LANE_KEY = "x-ragmesh-lane"


@dataclass(frozen=True, slots=True)
class Job:
    """Requests in order, each a list of texts. `arrivals_s`, one for each request, makes it open;
    `callers` is for closed ones."""

    name: str
    requests: Sequence[Sequence[str]]
    lane: str = "interactive"
    callers: int = 1
    arrivals_s: Sequence[float] = ()


@dataclass(slots=True)
class Outcome:
    """Of the requests that were sent: each one's latency in the order of the answers, how many
    texts were embedded, until when (from the start of all jobs), and what failed, by status."""

    latencies_ms: list[float] = field(default_factory=list)
    texts: int = 0
    elapsed_s: float = 0.0
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def texts_per_s(self) -> float:
        """Until the last answer; NaN if there was none."""
        return self.texts / self.elapsed_s if self.texts else float("nan")


def percentile_ms(latencies_ms: Sequence[float], percent: float) -> float:
    """NaN where there is none, so that a target on it is missed."""
    return float(np.percentile(latencies_ms, percent)) if len(latencies_ms) else float("nan")


def poisson(per_s: float, seconds: float, seed: int) -> list[float]:
    """Times in [0, seconds) of arrivals that know nothing of each other, `per_s` on average."""
    random = np.random.default_rng(seed)
    times: list[float] = []
    now_s = random.exponential(1 / per_s)
    while now_s < seconds:
        times.append(float(now_s))
        now_s += random.exponential(1 / per_s)
    return times


def put(address: str, jobs: Sequence[Job]) -> dict[str, Outcome]:
    """Runs all jobs at once in another process. Raises RuntimeError with its last words."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load"],
        input=json.dumps({"address": address, "jobs": [asdict(job) for job in jobs]}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the load ended with {done.returncode}: {done.stderr[-2000:]}")
    return {name: Outcome(**outcome) for name, outcome in json.loads(done.stdout).items()}


class _Running:
    """One job on a channel of its own."""

    def __init__(self, job: Job, address: str) -> None:
        self.job = job
        self.outcome = Outcome()
        self._channel = grpc.aio.insecure_channel(
            address, options=[("grpc.max_receive_message_length", -1)]
        )
        self._call: Any = self._channel.unary_unary(METHOD)
        self._metadata = ((LANE_KEY, "bulk"),) if job.lane == "bulk" else ()
        self._requests = [
            pb.EmbedTextsRequest(
                model="embeddingModels/default", texts=texts, truncate=True
            ).SerializeToString()
            for texts in job.requests
        ]

    async def connect(self) -> None:
        """Before the clock starts."""
        await self._channel.channel_ready()

    async def closed(self, begin_s: float) -> None:
        """All requests, by its callers."""
        waiting = iter(range(len(self._requests)))
        await asyncio.gather(*(self._caller(waiting, begin_s) for _ in range(self.job.callers)))

    async def _caller(self, waiting: Iterator[int], begin_s: float) -> None:
        for number in waiting:
            await self._send(number, time.perf_counter(), begin_s)

    async def open(self, begin_s: float, over: asyncio.Event) -> None:
        """Each request at its time, until `over`; waits for the answers that are due."""
        async with asyncio.TaskGroup() as sent:
            for number, arrival_s in enumerate(self.job.arrivals_s):
                if await _set_within(over, begin_s + arrival_s - time.perf_counter()):
                    break
                sent.create_task(self._send(number, begin_s + arrival_s, begin_s))

    async def _send(self, number: int, from_s: float, begin_s: float) -> None:
        try:
            await self._call(
                self._requests[number], timeout=CALL_TIMEOUT_S, metadata=self._metadata
            )
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            self.outcome.failures[code] = self.outcome.failures.get(code, 0) + 1
            return
        end_s = time.perf_counter()
        self.outcome.latencies_ms.append((end_s - from_s) * 1000)
        self.outcome.texts += len(self.job.requests[number])
        self.outcome.elapsed_s = end_s - begin_s

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


async def _run(address: str, jobs: Sequence[Job]) -> dict[str, Outcome]:
    running = [_Running(job, address) for job in jobs]
    await asyncio.gather(*(one.connect() for one in running))
    begin_s, over = time.perf_counter(), asyncio.Event()
    closed = [one for one in running if not one.job.arrivals_s]
    async with asyncio.TaskGroup() as group:
        for one in running:
            if one.job.arrivals_s:
                group.create_task(one.open(begin_s, over))
        await asyncio.gather(*(one.closed(begin_s) for one in closed))
        if closed:
            over.set()
    await asyncio.gather(*(one.close() for one in running))
    return {one.job.name: one.outcome for one in running}


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False


def main() -> None:
    """Reads the jobs from standard input, prints the outcomes to standard output."""
    given: Mapping[str, Any] = json.load(sys.stdin)
    jobs = [Job(**job) for job in given["jobs"]]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcomes = runner.run(_run(given["address"], jobs))
    json.dump({name: asdict(outcome) for name, outcome in outcomes.items()}, sys.stdout)


if __name__ == "__main__":
    main()
