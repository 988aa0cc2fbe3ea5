"""What Ray Serve runs: a replica that keeps one ordinary node process alive.

No request passes through it. It takes over a node that lost its keeper, or starts one; a node that
ends is started again at once, and one that does not answer fails the replica's health, so that
Serve replaces both. When Serve stops the replica, the node drains; when Ray kills it, because a
head or a machine was lost, the node serves on, and the next replica takes it over.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ray.util

from engine.errors import RagmeshError
from services.local.process import own_argv
from services.ray import records
from services.ray.node import Load, Node, end_all
from services.ray.records import About

_LOG = logging.getLogger("ray.serve")
_READY_WITHIN_S = 120.0
"""A node converts its model first, and replays what it missed."""
_WATCH_S = 0.5
_BACKOFF_S = (0.1, 5.0)
_HEALTHY_S = 30.0
_THREADS = "RAGMESH_MODELS__THREADS"


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What every replica of a placement is given; `cpus` are the logical CPUs of its node.

    The settings travel as variables, secrets in the clear, because the code that reads them may be
    newer than the code that wrote them: a roll brings new code.
    """

    deployment: str
    about: About
    data_dir: str
    drain_grace_s: float
    cpus: float
    variables: Mapping[str, str] = field(repr=False)


class NodeReplica:
    """Keeps one node, from its construction to its end."""

    def __init__(self, plan: NodePlan) -> None:
        """Returns when the node serves. Raises ServiceUnavailable, with the end of its log, where
        it does not."""
        data_dir = Path(plan.data_dir)
        self._plan = plan
        self._records = records.home(data_dir, plan.deployment)
        self._log_file = data_dir / "logs" / f"ray-{plan.about.placement}.log"
        self._stopping = threading.Event()
        self._starting_since_s: float | None = None
        self._rate = _Rate()
        self._node = self._adopted() or self._started()
        self._watcher = threading.Thread(target=self._watch, name="keeper", daemon=True)
        self._watcher.start()

    async def check_health(self) -> None:
        """Raises where the node does not serve. One that is being started again has its time."""
        since_s = self._starting_since_s
        if since_s is not None and time.monotonic() - since_s < _READY_WITHIN_S:
            return
        if not await asyncio.to_thread(self._node.serves):
            raise RuntimeError(f"node {self._node.record.name} does not serve")

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Padded tokens that wait for the node's models, and its tokens a second; nothing where
        the node does not say."""
        load = await asyncio.to_thread(self._node.load)
        if load is None:
            return {}
        return {
            "tokens_waiting": load.tokens_waiting,
            "tokens_per_s": self._rate.next(load, time.monotonic()),
        }

    async def __del__(self) -> None:
        """Serve awaits this before it stops a replica: the node drains. Python itself, which calls
        it when Ray ends the worker for want of a head, awaits nothing: the node serves on."""
        if not hasattr(self, "_watcher"):
            return  # it never had a node
        self._stopping.set()
        await asyncio.to_thread(self._watcher.join)
        await asyncio.to_thread(end_all, [self._node], self._plan.drain_grace_s + 5.0)

    def _adopted(self) -> Node | None:
        """A living node of our kind without a keeper."""
        for record in records.orphans(self._records):
            if record.about() == self._plan.about:
                node = Node.adopt(record)
                if node is not None:
                    _LOG.info("took over node %s, process %d", record.name, node.pid)
                    record.touch()
                    return node
            record.release()
        return None

    def _started(self) -> Node:
        host = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        node = Node.start(
            self._records,
            self._plan.about,
            own_argv("serve"),
            {**_own_environment(), **variables_at(self._plan, host)},
            self._log_file,
        )
        try:
            node.until_ready(_READY_WITHIN_S, self._log_file)
        except RagmeshError:
            node.kill()
            raise
        _LOG.info("node %s serves, process %d", node.record.name, node.pid)
        return node

    def _watch(self) -> None:
        """Start the node again whenever it ends, until we stop or the mesh is closed."""
        pause_s, born_s = _BACKOFF_S[0], time.monotonic()
        while not self._stopping.is_set():
            if not self._node.ended(_WATCH_S):
                self._node.record.touch()
                continue
            if records.is_closed(self._records, self._plan.about.session):
                return
            self._starting_since_s = self._starting_since_s or time.monotonic()
            pause_s = _BACKOFF_S[0] if time.monotonic() - born_s > _HEALTHY_S else pause_s
            _LOG.warning("node %s ended; the next one starts", self._node.record.name)
            self._node.kill()
            self._stopping.wait(pause_s)
            pause_s, born_s = min(pause_s * 2, _BACKOFF_S[1]), time.monotonic()
            try:
                self._node = self._started()
                self._starting_since_s = None
            except RagmeshError as error:
                _LOG.error("%s", error.message)


class _Rate:
    """Tokens a second between two looks."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def next(self, load: Load, now_s: float) -> float:
        last, self._last = self._last, (load.tokens_done, now_s)
        if last is None or now_s <= last[1]:
            return 0.0
        return max(0.0, (load.tokens_done - last[0]) / (now_s - last[1]))


def variables_at(plan: NodePlan, host: str) -> dict[str, str]:
    """The variables of a node on the machine that Ray calls `host`: any free ports of it, on
    loopback where Ray is there, and a thread of the model for each CPU."""
    if ipaddress.ip_address(host).is_loopback:
        host = "127.0.0.1"
    anywhere = f"[{host}]:0" if ":" in host else f"{host}:0"
    threads = plan.variables.get(_THREADS, "0")
    return {
        **plan.variables,
        "RAGMESH_NODE__LISTEN": anywhere,
        "RAGMESH_NODE__ADVERTISE": "",
        "RAGMESH_NODE__METRICS_LISTEN": anywhere,
        _THREADS: str(max(1, int(plan.cpus))) if threads == "0" else threads,
    }


def _own_environment() -> dict[str, str]:
    """Ours, without what Ray sets for its workers: their gRPC, threads and credentials."""
    prefixes = ("RAY_", "GRPC_", "OMP_", "RAGMESH_")
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
