"""Free loopback ports that stay the same over restarts, as long as nobody else took them.

Candidates lie below the range from which the kernel gives ports to outgoing connections (32768
and up on Linux), so that a port does not vanish between two starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import zlib
from collections.abc import Mapping
from pathlib import Path

from engine.errors import FailedPrecondition

_FIRST, _COUNT = 17_000, 15_000
_TRIES_MAX = 500


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether one could listen on the port now."""
    with contextlib.closing(_socket(host)) as probe:
        return _bind(probe, host, port)


def choose_ports(
    wanted: Mapping[str, int], memory_file: Path, *, host: str = "127.0.0.1"
) -> dict[str, int]:
    """A different free port for every name, remembered in `memory_file`.

    `wanted` gives each name the port asked for, or 0: then the remembered one if it is free,
    else a new one. Raises FailedPrecondition where a port asked for is taken, or none is free.
    """
    remembered = _read(memory_file)
    taken: list[socket.socket] = []
    chosen: dict[str, int] = {}
    try:
        for name, port in sorted(wanted.items(), key=lambda item: item[1] == 0):
            probe = _socket(host)
            taken.append(probe)
            if port:
                if not _bind(probe, host, port):
                    raise FailedPrecondition(
                        f"port {port} for {name} is in use on {host}; choose another, or 0 for "
                        "any that is free",
                        metadata={"port": port, "name": name, "host": host},
                    )
                chosen[name] = port
            else:
                chosen[name] = _first_free(probe, host, remembered.get(name, 0), memory_file)
    finally:
        for probe in taken:
            probe.close()
    _write(memory_file, {**remembered, **chosen})
    return chosen


def _first_free(probe: socket.socket, host: str, remembered: int, memory_file: Path) -> int:
    if remembered and _bind(probe, host, remembered):
        return remembered
    start = zlib.crc32(os.fsencode(memory_file))  # two data directories begin far from each other
    for step in range(_TRIES_MAX):
        port = _FIRST + (start + step) % _COUNT
        if _bind(probe, host, port):
            return port
    raise FailedPrecondition(
        f"none of {_TRIES_MAX} ports tried on {host} is free; give one by name",
        metadata={"tries": _TRIES_MAX, "host": host},
    )


def _socket(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    probe = socket.socket(family, socket.SOCK_STREAM)
    # A connection that lingers in TIME_WAIT is no reason to move; a listener still refuses us.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return probe


def _bind(probe: socket.socket, host: str, port: int) -> bool:
    try:
        probe.bind((host, port))
        probe.listen(1)
    except OSError:
        return False
    return True


def _read(memory_file: Path) -> dict[str, int]:
    try:
        ports = json.loads(memory_file.read_text())
        return {str(name): int(port) for name, port in ports.items() if 0 < int(port) < 65536}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _write(memory_file: Path, ports: Mapping[str, int]) -> None:
    fresh = memory_file.with_name(memory_file.name + ".new")
    fresh.write_text(json.dumps(ports, indent=2) + "\n")
    fresh.replace(memory_file)
