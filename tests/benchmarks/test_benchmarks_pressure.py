"""Load on a service from a process of its own, and what a node's processes take."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from benchmarks import requests
from benchmarks.pressure import Load, Pressure, put
from benchmarks.processes import (
    BUILDER,
    MemoryWatch,
    builders,
    cpu_s,
    on_cores,
    pss_kib,
    rss_kib,
    taken,
    threads,
)

SERVICE_S = 0.02
METHOD = "/test/Echo"


class _Echo(grpc.GenericRpcHandler):
    """Sends a request back after SERVICE_S, and refuses `no`."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            with self._lock:
                self.seen.append(data)
                self._now += 1
                self.most_at_once = max(self.most_at_once, self._now)
            time.sleep(SERVICE_S)
            with self._lock:
                self._now -= 1
            if data == b"no":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not this one")
            return data

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def echo() -> Iterator[tuple[str, _Echo]]:
    handler = _Echo()
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler
    server.stop(0).wait()


def _file(folder: Path, made: list[bytes]) -> str:
    requests.write(folder / "requests", iter(made))
    return str(folder / "requests")


def test_a_closed_load_sends_each_request_once_with_as_many_in_flight_as_it_may(
    echo: tuple[str, _Echo], tmp_path: Path
) -> None:
    address, handler = echo
    made = [b"%d" % n for n in range(40)]
    load = Load(address, METHOD, _file(tmp_path, made), in_flight=4, keep_replies=True)
    outcome = put(load)
    assert sorted(handler.seen) == sorted(made)
    assert 2 <= handler.most_at_once <= 4
    assert outcome.ok == 40 == len(outcome.latencies_ms) == len(outcome.replies)
    assert min(outcome.latencies_ms) >= SERVICE_S * 1000
    assert outcome.elapsed_s >= 10 * SERVICE_S
    assert outcome.check() is outcome


def test_a_load_for_a_time_sends_its_requests_around(
    echo: tuple[str, _Echo], tmp_path: Path
) -> None:
    address, handler = echo
    outcome = put(Load(address, METHOD, _file(tmp_path, [b"a", b"b"]), in_flight=2, seconds=0.5))
    assert 4 <= outcome.ok == len(handler.seen)
    assert abs(handler.seen.count(b"a") - handler.seen.count(b"b")) <= 1
    assert 0.4 <= outcome.elapsed_s < 2


def test_an_open_load_charges_from_when_a_request_was_due(
    echo: tuple[str, _Echo], tmp_path: Path
) -> None:
    address, handler = echo
    due_s = [0.0, 0.1, 0.3]
    outcome = put(Load(address, METHOD, _file(tmp_path, [b"a", b"b"]), arrivals_s=due_s))
    assert handler.seen == [b"a", b"b", b"a"]
    assert outcome.ok == 3
    assert outcome.elapsed_s >= 0.3 + SERVICE_S
    assert min(outcome.latencies_ms) >= SERVICE_S * 1000


def test_failures_are_counted_with_their_words(echo: tuple[str, _Echo], tmp_path: Path) -> None:
    address, _ = echo
    outcome = put(Load(address, METHOD, _file(tmp_path, [b"yes", b"no", b"yes"])))
    assert (outcome.ok, outcome.failures) == (2, {"INVALID_ARGUMENT": 1})
    with pytest.raises(RuntimeError, match=r"1 calls failed.*not this one"):
        outcome.check()


def test_a_load_can_be_stopped_and_says_what_it_has(
    echo: tuple[str, _Echo], tmp_path: Path
) -> None:
    address, handler = echo
    with Pressure(Load(address, METHOD, _file(tmp_path, [b"a"]), seconds=600)) as pressure:
        while len(handler.seen) < 3:
            time.sleep(0.01)
        assert pressure.running()
        outcome = pressure.stop()
    assert 3 <= outcome.ok == len(handler.seen)


def test_a_load_that_is_left_leaves_no_process(echo: tuple[str, _Echo], tmp_path: Path) -> None:
    address, _ = echo
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    with (
        pytest.raises(KeyboardInterrupt),
        Pressure(Load(address, METHOD, _file(tmp_path, [b"a"]), seconds=600)),
    ):
        raise KeyboardInterrupt
    assert {one.pid for one in psutil.Process().children(recursive=True)} <= before


def test_a_load_without_requests_is_refused(echo: tuple[str, _Echo], tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="see standard error"):
        put(Load(echo[0], METHOD, _file(tmp_path, [])))


_NODE = f"""
import subprocess, sys, time
held = bytearray(40 << 20)
child = subprocess.Popen([sys.executable, "-c", '''
import time
held = bytearray(b"x") * (30 << 20)
print("ready", flush=True)
time.sleep(60)
''', "{BUILDER}"])
for i in range(2 * 10**6): pass
time.sleep(60)
"""


@pytest.fixture
def node() -> Iterator[int]:
    """A process that holds 40 MiB, with a builder that holds 30."""
    with subprocess.Popen(
        [sys.executable, "-c", _NODE], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid
        for one in [*psutil.Process(process.pid).children(), psutil.Process(process.pid)]:
            one.kill()


def _until(true: Callable[[], bool]) -> None:
    end_s = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_the_memory_of_a_node_and_of_its_builders_is_told_apart(node: int) -> None:
    (builder,) = builders(node)
    with MemoryWatch(node) as watch:
        time.sleep(1.2)
    now = taken(node)
    assert 30 << 10 <= now.builders_pss_kib < 60 << 10
    assert now.pss_kib == now.serving_pss_kib + now.builders_pss_kib
    assert watch.peak.builders_pss_kib >= 30 << 10
    assert watch.builders_seen == {builder.pid}
    assert pss_kib(node) <= rss_kib(node)
    builder.kill()
    _until(lambda: pss_kib(builder.pid) == 0)
    assert taken(node).builders_pss_kib == 0


def test_cpu_time_threads_and_cores_are_those_of_the_process(node: int) -> None:
    _until(lambda: cpu_s(node) > 0)
    assert threads(node) == 1
    cores = os.sched_getaffinity(node)
    one = {min(cores)}
    with on_cores(node, one):
        assert os.sched_getaffinity(node) == one
    assert os.sched_getaffinity(node) == cores
