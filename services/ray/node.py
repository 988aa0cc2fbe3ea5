"""One node process as its keeper sees it: started or found, asked how it is, and ended.

Blocking calls, each bounded by a time. The keeper need not be the parent: the node's end is seen
through a pidfd, which the kernel gives for any process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from engine.errors import ServiceUnavailable
from services.local.process import log_tail, rotate
from services.ray.records import About, Addresses, Record, new_record

HEALTH_TIMEOUT_S = 3.0
METRICS_TIMEOUT_S = 1.0
_DETACH = Path(__file__).with_name("detach.py")
_DETACH_TIMEOUT_S = 10.0
_PAUSE_S = 0.05
_KILL_S = 5.0


@dataclass(frozen=True, slots=True)
class Load:
    """What waits for the node's models and what they have done: padded tokens, and tokens since
    the node began."""

    tokens_waiting: float
    tokens_done: float


class Node:
    """A living node of a record that we keep. `close` it when its keeper is done with it."""

    def __init__(self, record: Record, pid: int) -> None:
        """Raises ProcessLookupError where the process has ended."""
        self.record = record
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._channel: grpc.Channel | None = None

    @classmethod
    def start(
        cls, records: Path, about: About, argv: list[str], env: Mapping[str, str], log_file: Path
    ) -> Node:
        """Start `argv` with exactly `env`, in a session of its own and as nobody's child. It is
        not ready yet. Raises ServiceUnavailable where it does not begin."""
        record = new_record(records, f"{about.placement}-{uuid.uuid4().hex[:8]}", about)
        log_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        rotate(log_file)
        done = subprocess.run(
            [
                *(sys.executable, "-I", "-S", str(_DETACH), str(record.directory), str(log_file)),
                *(*argv, "--ready-file", str(record.ready_file)),
            ],
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_DETACH_TIMEOUT_S,
            text=True,
        )
        pid = record.pid()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                return cls(record, pid)
        record.remove()
        raise ServiceUnavailable(
            f"a node of {about.placement} did not begin: {done.stderr.strip() or 'it ended'}. The "
            f"last lines of {log_file}:\n{_tail(log_file)}",
            metadata={"placement": about.placement, "log_file": str(log_file)},
        )

    @classmethod
    def adopt(cls, record: Record) -> Node | None:
        """The node of a record that we keep, if it lives and serves; else None."""
        pid = record.pid()
        with contextlib.suppress(ProcessLookupError):
            if pid:
                node = cls(record, pid)
                if node.serves():
                    return node
                node.close()
        return None

    @property
    def addresses(self) -> Addresses | None:
        """Where it is reached; None before it serves."""
        return self.record.addresses()

    def until_ready(self, within_s: float, log_file: Path) -> None:
        """Wait until it serves. Raises ServiceUnavailable, with the end of its log, where it ends
        or takes longer."""
        deadline_s = time.monotonic() + within_s
        while self.addresses is None:
            if self.ended(_PAUSE_S):
                problem = "it ended before it served"
            elif time.monotonic() > deadline_s:
                problem = f"it did not serve within {within_s:g} s"
            else:
                self.record.touch()
                continue
            raise ServiceUnavailable(
                f"node {self.record.name} does not run: {problem}. The last lines of "
                f"{log_file}:\n{_tail(log_file)}",
                metadata={"node": self.record.name, "problem": problem, "log_file": str(log_file)},
            )

    def ended(self, wait_s: float = 0.0) -> bool:
        """Whether it has ended, waiting so long for it."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(wait_s * 1000))

    def serves(self) -> bool:
        """What its gRPC health says; False where it does not answer in time."""
        addresses = self.addresses
        if addresses is None or self.ended():
            return False
        if self._channel is None:
            self._channel = grpc.insecure_channel(addresses.grpc)
        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def load(self) -> Load | None:
        """Its queue, read from its metrics page; None where it has none or does not answer."""
        addresses = self.addresses
        if addresses is None or not addresses.metrics:
            return None
        try:
            with urlopen(f"http://{addresses.metrics}/metrics", timeout=METRICS_TIMEOUT_S) as page:
                text = page.read().decode()
        except OSError:
            return None
        waiting = _sum(text, "ragmesh_model_queue_tokens_waiting")
        if waiting is None:
            return None
        return Load(waiting, _sum(text, "ragmesh_model_tokens_total") or 0.0)

    def drain(self) -> None:
        """Tell it to leave the mesh and to end; one that would not hear it is left to `kill`."""
        if self.serves():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        else:
            self.kill()

    def kill(self) -> None:
        """End it and every process of its group at once, and forget it."""
        if not self.ended():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)  # alive a moment ago, so the id is its own
            self.ended(_KILL_S)
        self.close()
        self.record.remove()

    def close(self) -> None:
        """Let go of it; it lives on."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1


def end_all(nodes: Sequence[Node], grace_s: float) -> None:
    """Drain nodes, all at once and within `grace_s`; then there is no process of them left."""
    deadline_s = time.monotonic() + grace_s
    if grace_s > 0:
        for node in nodes:
            node.drain()
    for node in nodes:
        node.ended(max(0.0, deadline_s - time.monotonic()))
        node.kill()


def _sum(page: str, name: str) -> float | None:
    """A metric over all its labels; None where the page has none of that name."""
    found = [
        float(line.rpartition(" ")[2])
        for line in page.splitlines()
        if line.startswith((name + " ", name + "{"))
    ]
    return sum(found) if found else None


def _tail(log_file: Path) -> str:
    lines = log_tail(log_file) or ["(nothing)"]
    return "\n".join(f"    {line}" for line in lines)
