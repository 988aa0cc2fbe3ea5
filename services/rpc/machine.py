"""What the machine has, as this process may use it."""

from __future__ import annotations

import ctypes
from pathlib import Path

import psutil

_CGROUP_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
"""Of version 2 and 1 of cgroups."""


def budget(memory_bytes_max: int) -> int:
    """Bytes: what was asked for, or half of what this process may use for 0."""
    return memory_bytes_max or available() // 2


def available(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The machine's memory in bytes, or the cgroup's limit where that is less."""
    limits = [psutil.virtual_memory().total]
    for name in _CGROUP_LIMITS:
        try:
            limits.append(int((cgroups / name).read_text()))
        except (OSError, ValueError):
            continue  # no such version of cgroups, or "max" for no limit
    return min(limits)


def give_back() -> None:
    """Has the C library return to the system what was freed in it: rows that were sealed or deleted
    leave holes that it keeps. Takes milliseconds; nothing happens where it cannot."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
