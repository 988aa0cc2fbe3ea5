"""What a node's processes take: memory, CPU time, threads, cores."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

BUILDER = "engine.index.building"
"""The module that a process runs which builds a segment for a node."""

_SAMPLE_S = 0.5


@dataclass(frozen=True, slots=True)
class Taken:
    """Memory in KiB. PSS counts a page that several processes share once among them."""

    serving_pss_kib: int
    builders_pss_kib: int

    @property
    def pss_kib(self) -> int:
        """Of all together."""
        return self.serving_pss_kib + self.builders_pss_kib


def taken(pid: int) -> Taken:
    """Of a node and the builders that it runs now; parsers and other children are left out."""
    return Taken(pss_kib(pid), sum(pss_kib(child.pid) for child in builders(pid)))


def builders(pid: int) -> list[psutil.Process]:
    """The processes that build segments for a node now."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if BUILDER in child.cmdline():
                    found.append(child)
    return found


def pss_kib(pid: int) -> int:
    """A process's proportional share of memory; 0 where it has ended."""
    return _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss:")


def family_pss_kib(pid: int) -> int:
    """Of a process and all that it has started."""
    family = [pid]
    with contextlib.suppress(psutil.NoSuchProcess):
        family += [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return sum(map(pss_kib, family))


def rss_kib(pid: int) -> int:
    """A process's resident memory; 0 where it has ended."""
    return _field(Path(f"/proc/{pid}/status"), "VmRSS:")


def peak_rss_kib(pid: int) -> int:
    """The most that a process held since it became its program; 0 where it has ended. (What
    `getrusage` says begins with the peak of the process that started it.)"""
    return _field(Path(f"/proc/{pid}/status"), "VmHWM:")


def threads(pid: int) -> int:
    """How many threads a process has."""
    return psutil.Process(pid).num_threads()


def cpu_s(pid: int) -> float:
    """CPU time of a process, in user and system mode, its builders' included."""
    total = 0.0
    for process in (psutil.Process(pid), *builders(pid)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # What ended children took is counted by those who ran them.
            total += times.user + times.system + times.children_user + times.children_system
    return total


@contextmanager
def on_cores(pid: int, cores: set[int]) -> Iterator[None]:
    """Keeps every thread that a process has now on some cores, until the context ends."""
    before = os.sched_getaffinity(pid)
    try:
        _set_cores(pid, cores)
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            _set_cores(pid, before)


class MemoryWatch:
    """Looks at a node's memory twice a second while its context lasts; `peak` is the most that
    it saw at one time."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory", daemon=True)
        self.peak = Taken(0, 0)
        self.builders_seen: set[int] = set()

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            now = taken(self._pid)
            self.builders_seen.update(one.pid for one in builders(self._pid))
            if now.pss_kib > self.peak.pss_kib:
                self.peak = now


def busy_cores(pid: int, seconds: float = 0.5) -> float:
    """How many cores a node with its builders keeps busy, over the next `seconds`."""
    before, begin_s = cpu_s(pid), time.perf_counter()
    time.sleep(seconds)
    return max(0.0, cpu_s(pid) - before) / (time.perf_counter() - begin_s)


def _set_cores(pid: int, cores: set[int]) -> None:
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), cores)


def _field(file: Path, name: str) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        for line in file.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
