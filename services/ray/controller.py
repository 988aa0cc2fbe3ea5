"""What `ragmesh up --ray` runs: says to Ray which nodes are wanted, and sees to it that it is so.

One life is one connection. When Ray is lost, this process ends and its supervisor starts the next,
which waits until Ray is back; the nodes serve on meanwhile. Ray's calls block and may not return
where Ray is lost, so each runs in a thread that is given up after a time, and the process ends
without waiting for any.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import RagmeshError, ServiceUnavailable
from services.local.gateway import split_address
from services.ray import cluster
from services.ray.cluster import Wanted
from services.ray.sweep import close, sweep

_LOG = logging.getLogger(__name__)
_FIRST_CONTACT_S = 60.0
"""A Ray that is started beside us takes some seconds to answer."""
_CONNECT_S = 60.0
_CALL_S = 30.0
_FIRST_NODE_S = 120.0
_EACH_NODE_S = 30.0
_LOOK_S = 1.0
_LOOKS_LOST = 3
"""Ray is lost when its address does not answer so often in a row."""
_SWEEP_EVERY_S = 5.0
_SHUTDOWN_S = 10.0


@dataclass(frozen=True, slots=True)
class Files:
    """Where the controller meets others: `ready` is written when all nodes serve, `orders` is the
    socket that `ragmesh ray roll` writes to, `rolls` remembers the count over our lives."""

    ready: Path
    orders: Path
    rolls: Path


class Controller:
    """One life, from `run` to the end of the process. `returning` is any life after the first:
    Ray may be away as long as it likes."""

    def __init__(self, wanted: Wanted, address: str, files: Files, *, returning: bool) -> None:
        self._wanted = wanted
        self._address = address
        self._files = files
        self._returning = returning
        self._roll = _remembered(files.rolls, wanted.session)
        self._rolling = asyncio.Lock()
        self._connected = False
        self._parent = os.getppid()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then no node of the deployment is left. Raises what keeps the nodes from
        serving, and ServiceUnavailable where Ray is lost: then the nodes serve on."""
        work = asyncio.ensure_future(self._work())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not stop.is_set() and self._returning and not self._orphaned():
            work.result()
        work.cancel()
        await asyncio.wait([work])
        await self._end()
        if not work.cancelled():
            work.result()

    async def _work(self) -> None:
        if self._returning:
            self._files.ready.touch()
        else:
            here = self._here()
            await _in_thread(lambda: sweep(*here), here[-1] + _CALL_S)
        await self._until_reachable()
        await self._ray(lambda: cluster.connect(self._address), _CONNECT_S)
        self._connected = True
        await self._deploy(anew=False)
        if not self._returning:  # else they serve already, kept or not
            await self._until_running()
        self._files.orders.unlink(missing_ok=True)
        orders = await asyncio.start_unix_server(self._take_order, self._files.orders)
        try:
            self._files.ready.touch()
            self._returning = True
            await self._keep()
        finally:
            orders.close()

    async def _until_reachable(self) -> None:
        begin_s, warned = time.monotonic(), False
        while not await _answers(self._address):
            if not self._returning and time.monotonic() - begin_s > _FIRST_CONTACT_S:
                raise ServiceUnavailable(
                    f"no Ray answers at {self._address} within {_FIRST_CONTACT_S:g} s",
                    metadata={"address": self._address},
                )
            if self._returning and not warned:
                _LOG.warning("Ray is away; the nodes serve on by their leases")
                warned = True
            await asyncio.sleep(0.1)

    async def _deploy(self, *, anew: bool) -> None:
        wanted, roll = self._wanted, self._roll
        await self._ray(lambda: cluster.deploy(wanted, roll, anew=anew), _CALL_S)
        self._files.rolls.write_text(f"{wanted.session} {roll}")

    async def _until_running(self) -> None:
        wanted = self._wanted
        within_s = _FIRST_NODE_S + _EACH_NODE_S * sum(one.replicas_max for one in wanted.placements)
        await self._ray(lambda: cluster.until_running(wanted, within_s), within_s + _CALL_S)
        _LOG.info("all nodes serve")

    async def _keep(self) -> None:
        """Look whether Ray is there, and let what is left behind be swept, until Ray is lost."""
        silent, swept_s = 0, 0.0
        while silent < _LOOKS_LOST:
            await asyncio.sleep(_LOOK_S)
            silent = 0 if await _answers(self._address) else silent + 1
            if silent or self._rolling.locked() or time.monotonic() - swept_s < _SWEEP_EVERY_S:
                continue
            if await self._ray(lambda: cluster.is_settled(self._wanted), _CALL_S):
                await self._everywhere(sweep)
            swept_s = time.monotonic()
        raise ServiceUnavailable(
            f"Ray at {self._address} is lost; the nodes serve on by their leases",
            metadata={"address": self._address},
        )

    async def _take_order(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Roll, and answer with one line of JSON: `seconds`, or `error`."""
        try:
            await reader.readline()
            begin_s = time.monotonic()
            try:
                async with self._rolling:
                    await self._roll_on()
                answer: dict[str, Any] = {"seconds": round(time.monotonic() - begin_s, 2)}
            except RagmeshError as error:
                answer = {"error": error.message}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        finally:
            writer.close()

    async def _roll_on(self) -> None:
        self._roll += 1
        _LOG.info("roll %d begins", self._roll)
        await self._deploy(anew=True)
        await self._until_running()
        _LOG.info("roll %d is done", self._roll)

    async def _end(self) -> None:
        """Drain every node. Those on machines that Ray does not reach now serve on; they are
        drained when Ray is back there and `ragmesh up --ray` runs again."""
        grace_s = self._wanted.settings.node.drain_grace_s
        within_s = grace_s + _CALL_S
        if self._orphaned():  # PostgreSQL and Redis died with `up`: nobody can be served
            await self._close_here(0.0)
            within_s = _SHUTDOWN_S
        if self._connected and await _answers(self._address):
            try:
                await self._ray(lambda: cluster.delete(self._wanted), within_s)
                await self._everywhere(close)
                await self._ray(cluster.leave, _SHUTDOWN_S)
            except RagmeshError as error:
                _LOG.warning("Ray did not stop all nodes: %s", error)
        await self._close_here(grace_s)

    def _orphaned(self) -> bool:
        """Whether `up` died without stopping us."""
        return os.getppid() != self._parent

    async def _close_here(self, grace_s: float) -> None:
        data_dir, deployment, session, _ = self._here()
        await _in_thread(lambda: close(data_dir, deployment, session, grace_s), grace_s + _CALL_S)

    async def _everywhere(self, work: Callable[[str, str, str, float], None]) -> None:
        within_s = self._wanted.settings.node.drain_grace_s + _CALL_S
        await self._ray(lambda: cluster.on_every_machine(self._wanted, work), within_s)

    async def _ray(self, work: Callable[[], Any], within_s: float) -> Any:
        """A call to Ray. Raises ServiceUnavailable where it fails or takes longer."""
        try:
            return await _in_thread(work, within_s)
        except (TimeoutError, *cluster.FAILURES) as error:
            problem = str(error) or f"no answer within {within_s:g} s"
            raise ServiceUnavailable(
                f"Ray at {self._address} did not do what it was asked: {problem}",
                metadata={"address": self._address, "problem": problem},
            ) from error

    def _here(self) -> tuple[str, str, str, float]:
        settings = self._wanted.settings
        return (
            *(str(settings.data_dir), self._wanted.deployment, self._wanted.session),
            settings.node.drain_grace_s,
        )


async def _answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(_LOOK_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


async def _in_thread(work: Callable[[], Any], within_s: float) -> Any:
    """What `work` returns or raises; TimeoutError where it takes longer, and the thread is left
    to itself."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(result)
        else:
            done.set_exception(error)

    def run() -> None:
        try:
            result, error = work(), None
        except BaseException as caught:
            result, error = None, caught
        loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="ray-call", daemon=True).start()
    return await asyncio.wait_for(done, within_s)


def _remembered(rolls: Path, session: str) -> int:
    """How often this session has rolled."""
    try:
        known, _, count = rolls.read_text().partition(" ")
        return int(count) if known == session else 0
    except (OSError, ValueError):
        return 0
