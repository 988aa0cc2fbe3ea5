"""Nodes on Ray: what they cost against one node without it, and what callers see of a death and
of a roll.

Both meshes run during the whole comparison, in turns, so that what else goes on hits both. Every
text is new, so that no cache answers; texts are abstracts of the demo's corpus, each with its
number before it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import numpy as np
from ragmesh import AsyncClient, RagmeshError

from benchmarks.bench import Bench
from benchmarks.data import demo_texts
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.simulation import calls_per_s
from benchmarks.suites.start import running_up, timed_up
from services.ray.records import all_records

BATCH = 32
CALLERS = 8
"""Batches in flight: enough for two nodes to have the next one waiting."""
SIMULATED = (2, 4, 8, 16, 32)
BACK_TIMEOUT_S = 60.0
ROLL_TIMEOUT_S = 600.0
_EMBEDDING = ("--nodes", "embedding", "--port", "0")
_ON_RAY = ("--ray", "--ray-replicas", "embedding=2", "--ray-cpus", "embedding=1")


def ray(bench: Bench) -> SuiteReport:
    """One node with both cores against two replicas with one CPU each, then a kill and a roll."""
    rounds, batches = (2, 8) if bench.quick else (6, 20)
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder, ExitStack() as running:
        root = Path(folder)
        bench.say("starting `ragmesh up --ray` in a new directory, then again")
        ready_s, _ = timed_up(root / "all", "--ray")
        again_s, stopped_s = timed_up(root / "all", "--ray")
        bench.say("starting a mesh with one node, and one with two on Ray")
        plain = running.enter_context(running_up(root / "plain", *_EMBEDDING))[1]["REST"]
        on_ray = running.enter_context(running_up(root / "ray", *_EMBEDDING, *_ON_RAY))[1]["REST"]
        bench.say(f"embedding {rounds} x {batches} batches of {BATCH} texts through each")
        one, two = asyncio.run(_throughput(plain, on_ray, rounds, batches))
        service_s = asyncio.run(_service_times(on_ray, 10 if bench.quick else 100))
        bench.say("killing a node under load, then replacing all of them")
        killed = asyncio.run(_under_load(on_ray, lambda: _kill_one(root / "ray")))
        rolled = asyncio.run(_under_load(on_ray, lambda: _roll(root / "ray")))
    return SuiteReport(
        suite="ray",
        setting={
            "rounds": rounds,
            "batches": batches,
            "texts": BATCH,
            "callers": CALLERS,
            "cores": len(os.sched_getaffinity(0)),
        },
        figures=[
            Figure("`up --ray` ready, new directory", ready_s, "s", "all services in one node"),
            Figure("`up --ray` ready, again", again_s, "s"),
            Figure("`up --ray` stopped after Ctrl-C", stopped_s, "s", "no process left"),
            Figure("calls during the kill", killed.calls, "calls"),
            Figure("calls during the roll", rolled.calls, "calls"),
            Figure("the roll", rolled.seconds, "s", "two nodes, one after the other"),
            *_simulated(service_s),
        ],
        comparisons=[
            Comparison(
                "throughput",
                Figure("two replicas, 1 CPU each", two, "texts/s"),
                Figure("one node, all cores", one, "texts/s"),
            )
        ],
        targets=[
            Target("ray_throughput_ratio", two / one),
            Target("ray_kill_failed_calls", len(killed.failures)),
            Target("ray_kill_back_s", killed.seconds),
            Target("ray_roll_failed_calls", len(rolled.failures)),
            Target("ray_ready_s", ready_s),
        ],
    )


async def _throughput(plain: str, on_ray: str, rounds: int, batches: int) -> tuple[float, float]:
    """Texts a second of the one and of the other: the medians over the rounds."""
    texts = _texts()
    found: dict[str, list[float]] = {plain: [], on_ray: []}
    async with AsyncClient(_door(plain)) as one, AsyncClient(_door(on_ray)) as two:
        clients = {plain: one, on_ray: two}
        for client in clients.values():
            await _embed(client, texts, CALLERS)
        for number in range(rounds):
            order = list(clients) if number % 2 else list(reversed(clients))
            for url in order:
                begin_s = time.perf_counter()
                await _embed(clients[url], texts, batches)
                found[url].append(batches * BATCH / (time.perf_counter() - begin_s))
    return float(np.median(found[plain])), float(np.median(found[on_ray]))


async def _service_times(url: str, batches: int) -> list[float]:
    """Seconds of one batch after the other, while nobody else calls."""
    texts, found = _texts(), []
    async with AsyncClient(_door(url)) as client:
        for _ in range(batches):
            begin_s = time.perf_counter()
            await client.embed_texts(texts(), lane="bulk", truncate=True, timeout_s=120)
            found.append(time.perf_counter() - begin_s)
    return found


def _simulated(service_s: list[float]) -> list[Figure]:
    """What more nodes of one CPU would do, as if each had a core of its own."""
    calls = len(service_s) * 40
    alone = BATCH * calls_per_s(service_s, 1, CALLERS, calls)
    return [
        Figure(
            f"{nodes} nodes, simulated",
            BATCH * calls_per_s(service_s, nodes, CALLERS * nodes, calls * nodes) / alone,
            "x",
            "of one node's throughput; method in benchmarks/simulation.py",
        )
        for nodes in SIMULATED
    ]


async def _embed(client: AsyncClient, texts: Callable[[], list[str]], batches: int) -> None:
    left = iter(range(batches))

    async def caller() -> None:
        for _ in left:
            await client.embed_texts(texts(), lane="bulk", truncate=True, timeout_s=120)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))


def _texts() -> Callable[[], list[str]]:
    """Makes the next batch; no text comes twice."""
    known, numbers = [one.text for one in demo_texts()], count()
    return lambda: [f"{(n := next(numbers))}. {known[n % len(known)]}" for _ in range(BATCH)]


@dataclass(slots=True)
class _Seen:
    """What callers saw while something was done, and how long that took."""

    calls: int = 0
    failures: list[str] = field(default_factory=list)
    seconds: float = float("nan")


async def _under_load(url: str, work: Callable[[], Awaitable[float]]) -> _Seen:
    """Four callers, who try again as the client does by itself, until the work is done."""
    seen, texts = _Seen(), _texts()
    done = asyncio.Event()
    async with AsyncClient(_door(url)) as client:

        async def caller() -> None:
            while not done.is_set():
                try:
                    await client.embed_texts(texts()[:1], truncate=True, timeout_s=20)
                    seen.calls += 1
                except RagmeshError as error:
                    seen.failures.append(str(error))

        callers = [asyncio.create_task(caller()) for _ in range(4)]
        await asyncio.sleep(1)
        seen.seconds = await work()
        await asyncio.sleep(1)
        done.set()
        await asyncio.gather(*callers)
    return seen


async def _kill_one(data_dir: Path) -> float:
    """Kill a node; seconds until as many serve as before."""
    before = _serving(data_dir)
    dead = min(before)
    begin_s = time.perf_counter()
    os.kill(dead, signal.SIGKILL)
    while len(_serving(data_dir) - {dead}) < len(before):
        if time.perf_counter() - begin_s > BACK_TIMEOUT_S:
            break
        await asyncio.sleep(0.02)
    return time.perf_counter() - begin_s


async def _roll(data_dir: Path) -> float:
    """Seconds that `ragmesh ray roll` says it took. Raises RuntimeError where it fails."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.cli", "ray", "roll", "--json"),
        *("--data-dir", str(data_dir)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    async with asyncio.timeout(ROLL_TIMEOUT_S):
        said, trouble = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"`ragmesh ray roll` failed: {trouble.decode()[-2000:]}")
    return float(json.loads(said)["seconds"])


def _serving(data_dir: Path) -> set[int]:
    """The processes of the nodes that serve."""
    homes = (data_dir / "ray").glob("*/*")
    records = [record for home in homes for record in all_records(home)]
    return {pid for record in records if record.addresses() and (pid := record.pid())}


def _door(url: str) -> str:
    return url.removeprefix("http://")
