"""Ports that a test can give to a server before it starts."""

from __future__ import annotations

import random
import socket

_FIRST, _COUNT = 2_000, 8_000
"""Below the range from which the kernel gives ports to outgoing connections, so that none of them
takes a port between the look and the start; and below where Ray and a mesh look for theirs."""
_CHANCE = random.SystemRandom()
"""Not the one that tests seed: two runs would look at the same ports."""


def free_port() -> int:
    """A port of 127.0.0.1 that is free, and that nobody gets by chance."""
    for number in _CHANCE.sample(range(_FIRST, _FIRST + _COUNT), 100):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number
    raise AssertionError("none of 100 ports is free")
