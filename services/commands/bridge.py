"""`ragmesh bridge`: the ASGI server beside Envoy, as `up` and `gateway` run it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options

if TYPE_CHECKING:
    from services.config import Settings


def bridge(
    listen: Annotated[str | None, typer.Option(help="host:port where Envoy calls it.")] = None,
    ads_listen: Annotated[
        str | None, typer.Option(help="host:port of the control plane, which says where nodes are.")
    ] = None,
    allow_unauthenticated: options.AllowUnauthenticated = None,
    log_level: options.LogLevel = None,
) -> None:
    """Take uploads of any size over REST, for the gateway."""
    import uvloop

    from services.commands.settings import load
    from services.logs import configure

    settings = load(
        log_level=log_level,
        bridge__listen=listen,
        gateway__ads_listen=ads_listen,
        node__allow_unauthenticated=allow_unauthenticated,
    )
    configure(settings.log_level)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings))


async def _run(settings: Settings) -> None:
    from services.bridge.server import run_bridge
    from services.commands.signals import stop_event
    from services.gateway.bootstrap import grpc_bootstrap

    # gRPC reads it when the first `xds:///` channel is made.
    name = f"bridge-{os.getpid()}"
    os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = grpc_bootstrap(settings.gateway.ads_listen, name)
    await run_bridge(settings, stop_event())
