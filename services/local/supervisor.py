"""Parts in the order of their needs: started, watched, restarted, and stopped in reverse.

Invariants:
- A part is started only when all parts it depends on have been ready once; it is stopped only
  when all parts that depend on it have stopped. A dependency that restarts stops nobody.
- Between two lives of a part lies at least its backoff, and nothing of the old life's process
  group is left when the next begins.
- After `stop` returns, or `start` raises, no process of any part is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import graphlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from engine.errors import RagmeshError, ServiceUnavailable
from services.local.process import Child, RunAs, describe_exit, rotate

EventKind: TypeAlias = Literal[
    "starting", "ready", "exited", "restarting", "crash_loop", "stopping", "stopped", "killed"
]
_PROBE_TIMEOUT_S = 2.0
_PROBE_PAUSE_S = (0.01, 0.2)
_LOG_CHECK_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A program to keep running.

    - `argv`: makes the command line anew for every life.
    - `ready`: polled until true; an exception counts as "not yet", and is shown on timeout.
    - `prepare`: before every life (make directories, wait for leftovers of an earlier one).
    - `settle`: after every `ready`, before dependents start (create a role).
    - `drain`: before the stop signal, within `stop_grace_s`.
    - `death_signal`: what the kernel sends it when we die without stopping it.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    ready: Callable[[], Awaitable[bool]]
    log_file: Path
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    run_as: RunAs = field(default_factory=RunAs)
    depends_on: tuple[str, ...] = ()
    prepare: Callable[[], Awaitable[None]] | None = None
    settle: Callable[[], Awaitable[None]] | None = None
    drain: Callable[[], Awaitable[None]] | None = None
    stop_signal: int = signal.SIGTERM
    stop_grace_s: float = 10.0
    ready_timeout_s: float = 30.0
    death_signal: int = signal.SIGKILL


@dataclass(frozen=True, slots=True)
class PartEvent:
    """Something that happened to a part; `pid` is 0 where it has no process."""

    name: str
    kind: EventKind
    pid: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PartState:
    """A part now: `restarts` counts the lives after the first."""

    name: str
    pid: int
    ready: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between lives, doubling; a life of `healthy_s` forgives all deaths before it.

    A part that dies `first_lives` times before it was ever ready fails the start; one that dies
    `loop_deaths` times in a row later is reported as a crash loop, and tried on and on.
    """

    first_s: float = 0.1
    max_s: float = 5.0
    healthy_s: float = 30.0
    first_lives: int = 3
    loop_deaths: int = 5

    def pause_s(self, deaths: int) -> float:
        """The pause after so many deaths in a row (1 or more)."""
        return min(self.max_s, self.first_s * 2.0 ** min(deaths - 1, 30))


Emit: TypeAlias = Callable[[PartEvent], None]


class Supervisor:
    """Keeps parts running. One event loop owns it, on a thread that outlives the parts.

    `on_event` is called on that loop and must not block.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        on_event: Emit | None = None,
        backoff: Backoff | None = None,
    ) -> None:
        """Raises ValueError for a name used twice, an unknown dependency or a cycle."""
        self._parts = _in_start_order(parts)
        self._emit: Emit = on_event or (lambda event: None)
        self._backoff = backoff or Backoff()
        self._keepers: dict[str, _Keeper] = {}
        self._log_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start every part as soon as its dependencies are ready; returns when all are ready.

        Where one fails, all are stopped again and its RagmeshError is raised, with the last
        20 lines of its log.
        """
        self._log_task = asyncio.create_task(self._watch_logs())
        for part in self._parts.values():
            self._keep(part)
        try:
            await asyncio.gather(*(keeper.first_ready for keeper in self._keepers.values()))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop every part, dependents first: drain, stop signal, grace, SIGKILL of the group."""
        if self._log_task is not None:
            self._log_task.cancel()
        stops = {name: asyncio.Event() for name in self._parts}

        async def stop_one(name: str) -> None:
            for part in self._parts.values():
                if name in part.depends_on:
                    await stops[part.name].wait()
            try:
                await self.stop_part(name)
            finally:
                stops[name].set()

        await asyncio.gather(*(stop_one(name) for name in self._parts))

    async def stop_part(self, name: str) -> None:
        """Stop one part and keep it stopped; the others run on."""
        keeper = self._keepers.pop(name, None)
        if keeper is not None:
            await keeper.stop()

    async def start_part(self, name: str) -> None:
        """Start a part that `stop_part` stopped, and wait until it is ready."""
        if name not in self._keepers:
            self._keep(self._parts[name])
        await asyncio.shield(self._keepers[name].first_ready)

    def states(self) -> tuple[PartState, ...]:
        """Every part now, in start order."""
        return tuple(
            self._keepers[name].state() if name in self._keepers else PartState(name, 0, False, 0)
            for name in self._parts
        )

    def _keep(self, part: Part) -> None:
        needs = [self._keepers[name] for name in part.depends_on if name in self._keepers]
        self._keepers[part.name] = _Keeper(part, needs, self._emit, self._backoff)

    async def _watch_logs(self) -> None:
        while True:
            await asyncio.sleep(_LOG_CHECK_S)
            for part in self._parts.values():
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(rotate, part.log_file)


class _Keeper:
    """Runs one part, life after life, until stopped."""

    def __init__(self, part: Part, needs: Sequence[_Keeper], emit: Emit, backoff: Backoff) -> None:
        self._part = part
        self._emit = emit
        self._backoff = backoff
        self._child: Child | None = None
        self._ready = False
        self._lives = 0
        self._stopping = False
        loop = asyncio.get_running_loop()
        self.first_ready: asyncio.Future[None] = loop.create_future()
        # Whoever waits is told; where nobody does, the failure was an event already.
        self.first_ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._task = loop.create_task(self._keep([need.first_ready for need in needs]))

    def state(self) -> PartState:
        pid = self._child.pid if self._child is not None and self._child.running else 0
        return PartState(self._part.name, pid, self._ready, max(0, self._lives - 1))

    async def stop(self) -> None:
        self._stopping = True
        child, part = self._child, self._part
        if child is not None and child.running:
            self._tell("stopping", child.pid)
            with contextlib.suppress(Exception):
                if part.drain is not None and self._ready:
                    await asyncio.wait_for(part.drain(), part.stop_grace_s)
            if not await child.end(part.stop_signal, part.stop_grace_s):
                self._tell("killed", child.pid, f"still alive {part.stop_grace_s} s after the stop")
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self.first_ready.done():
            self.first_ready.cancel()
        self._tell("stopped")

    async def _keep(self, needs: Sequence[asyncio.Future[None]]) -> None:
        try:
            for need in needs:
                await asyncio.shield(need)
        except RagmeshError:
            self.first_ready.cancel()  # the part that failed says why
            return
        loop = asyncio.get_running_loop()
        deaths = 0
        while True:
            self._lives += 1
            born_s = loop.time()
            try:
                ending = await self._live()
            except Exception as caught:
                error = caught if isinstance(caught, RagmeshError) else self._failure(_say(caught))
                ending = error.message
                if not self.first_ready.done():
                    self._tell("exited", 0, ending.partition("\n")[0])
                    self.first_ready.set_exception(error)
                    return
            if self._stopping:
                return
            deaths = 1 if loop.time() - born_s >= self._backoff.healthy_s else deaths + 1
            if not self._may_go_on(deaths, ending):
                return
            pause_s = self._backoff.pause_s(deaths)
            self._tell("restarting", 0, f"in {pause_s:g} s")
            await asyncio.sleep(pause_s)

    async def _live(self) -> str:
        """One life, from `prepare` to the exit of the process; how it ended, in words.

        Raises RagmeshError where another life would end the same way.
        """
        part = self._part
        if part.prepare is not None:
            await part.prepare()
        child = self._child = Child.start(
            part.argv(),
            log_file=part.log_file,
            env=part.env,
            cwd=part.cwd,
            run_as=part.run_as,
            death_signal=part.death_signal,
        )
        self._tell("starting", child.pid)
        try:
            problem = await self._until_ready(child)
            if problem:
                raise self._failure(problem)
            if child.running:
                self._ready = True
                self._tell("ready", child.pid)
                if not self.first_ready.done():
                    self.first_ready.set_result(None)
            code = await child.exited()
        finally:
            self._ready = False
            if child.running:
                child.send_group(signal.SIGKILL)
                await child.exited()
        ending = describe_exit(code)
        if not self._stopping:
            self._tell("exited", child.pid, ending)
        return ending

    async def _until_ready(self, child: Child) -> str:
        """Poll until ready or exited (an empty string), or past the time limit (what was seen)."""
        part = self._part
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + part.ready_timeout_s
        pause_s, seen = _PROBE_PAUSE_S[0], "it did not answer"
        while child.running:
            try:
                if await asyncio.wait_for(part.ready(), _PROBE_TIMEOUT_S):
                    if part.settle is not None:
                        await asyncio.wait_for(part.settle(), part.ready_timeout_s)
                    return ""
                seen = "it answered that it was not ready"
            except RagmeshError:
                raise
            except Exception as error:
                seen = _say(error)
            if loop.time() >= deadline_s:
                return f"not ready after {part.ready_timeout_s:g} s ({seen})"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.exited(), pause_s)
            pause_s = min(pause_s * 1.5, _PROBE_PAUSE_S[1])
        return ""

    def _may_go_on(self, deaths: int, ending: str) -> bool:
        times = f"{deaths} times in a row, last with {ending}"
        if not self.first_ready.done() and deaths >= self._backoff.first_lives:
            self.first_ready.set_exception(self._failure(f"it ended {times}"))
            return False
        if deaths == self._backoff.loop_deaths:
            self._tell("crash_loop", 0, self._failure(f"it ended {times}").message)
        return True

    def _failure(self, problem: str) -> ServiceUnavailable:
        tail = self._child.log_tail() if self._child is not None else []
        lines = "\n".join(f"    {line}" for line in tail) or "    (nothing)"
        name, log_file = self._part.name, self._part.log_file
        return ServiceUnavailable(
            f"{name} does not run: {problem}. The last lines of {log_file}:\n{lines}",
            metadata={"part": name, "problem": problem, "log_file": str(log_file)},
        )

    def _tell(self, kind: EventKind, pid: int = 0, detail: str = "") -> None:
        self._emit(PartEvent(self._part.name, kind, pid, detail))


def _say(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _in_start_order(parts: Sequence[Part]) -> dict[str, Part]:
    by_name = {part.name: part for part in parts}
    if len(by_name) != len(parts):
        raise ValueError(f"part names must differ: {sorted(part.name for part in parts)}")
    for part in parts:
        for need in part.depends_on:
            if need not in by_name:
                raise ValueError(f"part {part.name} depends on {need}, which is no part")
    order = graphlib.TopologicalSorter({part.name: part.depends_on for part in parts})
    return {name: by_name[name] for name in order.static_order()}
