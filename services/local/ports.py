"""Free loopback ports that stay the same over restarts, as long as nobody else took them.

Candidates lie below the range from which the kernel gives ports to outgoing connections (32768
and up on Linux), so that a port does not vanish between two starts.
"""

from __future__ import annotations

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
    server = _listen(host, port)
    if server is not None:
        server.close()
    return server is not None


def choose_ports(
    wanted: Mapping[str, int], memory_file: Path, *, host: str = "127.0.0.1"
) -> dict[str, int]:
    """A different free port for every name, remembered in `memory_file`.

    `wanted` gives each name the port asked for, or 0: then the remembered one if it is free,
    else a new one. Raises FailedPrecondition where a port asked for is taken, or none is free.
    """
    remembered = remembered_ports(memory_file)
    held: dict[str, socket.socket] = {}
    try:
        # All that are known first, so that a newcomer does not get the port of another name.
        for name, port in wanted.items():
            server = _listen(host, port or remembered.get(name, 0))
            if server is not None:
                held[name] = server
            elif port:
                raise FailedPrecondition(
                    f"port {port} for {name} is in use on {host}; choose another, or 0 for any "
                    "that is free",
                    metadata={"port": port, "name": name, "host": host},
                )
        for name in [name for name in wanted if name not in held]:
            held[name] = _listen_anywhere(host, memory_file)
        chosen = {name: int(held[name].getsockname()[1]) for name in wanted}
    finally:
        for server in held.values():
            server.close()
    _write(memory_file, {**remembered, **chosen})
    return chosen


def remembered_ports(memory_file: Path) -> dict[str, int]:
    """The ports of earlier starts by name; empty where the file is missing or cannot be read."""
    try:
        ports = json.loads(memory_file.read_text())
        return {str(name): int(port) for name, port in ports.items() if 0 < int(port) < 65536}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}


def _listen_anywhere(host: str, memory_file: Path) -> socket.socket:
    start = zlib.crc32(os.fsencode(memory_file))  # two data directories begin far from each other
    for step in range(_TRIES_MAX):
        server = _listen(host, _FIRST + (start + step) % _COUNT)
        if server is not None:
            return server
    raise FailedPrecondition(
        f"none of {_TRIES_MAX} ports tried on {host} is free; give one by name",
        metadata={"tries": _TRIES_MAX, "host": host},
    )


def _listen(host: str, port: int) -> socket.socket | None:
    """A listener on the port; None for port 0 and for one that is taken."""
    server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    # A connection that lingers in TIME_WAIT is no reason to move; a listener still refuses us.
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        if port:
            server.bind((host, port))
            server.listen(1)
            return server
    except OSError:
        pass
    server.close()
    return None


def _write(memory_file: Path, ports: Mapping[str, int]) -> None:
    fresh = memory_file.with_name(memory_file.name + ".new")
    fresh.write_text(json.dumps(ports, indent=2) + "\n")
    fresh.replace(memory_file)
