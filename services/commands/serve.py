"""`ragmesh serve`: one node."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options

if TYPE_CHECKING:
    from services.config import Settings

SWITCH_INTERVAL_S = 0.0005

COLLECT_S = 600.0
COLLECTIONS = (20_000, 50, 1_000_000)
"""Collecting all garbage looks at each point of every buffer, which takes 100 ms for 100,000 of
them and stops everything meanwhile. So only what is young is collected as it comes, and the rest
every ten minutes."""


def serve(
    services: Annotated[
        str | None,
        typer.Option(help="What it hosts: embedding,retrieval,documents,memory,generation,chat."),
    ] = None,
    listen: Annotated[
        str | None, typer.Option(help="host:port of its gRPC server; port 0 for a free one.")
    ] = None,
    advertise: Annotated[str | None, typer.Option(help="host:port that others call.")] = None,
    metrics: Annotated[
        str | None, typer.Option("--metrics-listen", help="host:port for Prometheus; '' for none.")
    ] = None,
    postgres_url: options.PostgresUrl = None,
    redis_url: options.RedisUrl = None,
    control_plane: Annotated[
        str | None,
        typer.Option(help="host:port of the control plane, where siblings run elsewhere."),
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where converted models are kept.")] = None,
    locality: Annotated[str | None, typer.Option(help="A zone name, shown in status.")] = None,
    identity: Annotated[
        str | None,
        typer.Option(help="default, or header: believe x-ragmesh-tenant, behind a proxy only."),
    ] = None,
    allow_unauthenticated: options.AllowUnauthenticated = None,
    log_level: options.LogLevel = None,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written, with its addresses, when the node serves.")
    ] = None,
) -> None:
    """Run one node of the mesh: services behind one gRPC port.

    SIGTERM and Ctrl-C drain it: it leaves the mesh, finishes what it has, and exits.
    """
    import uvloop

    from services.commands.settings import load
    from services.logs import configure

    names = None if services is None else tuple(s.strip() for s in services.split(",") if s.strip())
    settings = load(
        data_dir=data_dir,
        log_level=log_level,
        node__services=names,
        node__listen=listen,
        node__advertise=advertise,
        node__metrics_listen=metrics,
        node__control_plane=control_plane,
        node__locality=locality,
        node__identity=identity,
        node__allow_unauthenticated=allow_unauthenticated,
        store__postgres_url=postgres_url,
        store__redis_url=redis_url,
    )
    configure(settings.log_level)
    # Where a signal ends the node, as when a segment file is cut under it, the log says where.
    faulthandler.enable()
    # A search waits at most so long for a thread that applies writes to let go of the interpreter.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*COLLECTIONS)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(settings, ready_file))


async def _run(settings: Settings, ready_file: Path | None) -> None:
    from services.app import Node
    from services.commands.signals import finished_before, stop_event

    stop = stop_event()
    node = Node(settings)
    if settings.node.control_plane:
        from services.gateway.bootstrap import grpc_bootstrap

        # gRPC reads it when the first `xds:///` channel is made, which opening may do.
        os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = grpc_bootstrap(
            settings.node.control_plane, node.node_id
        )

    async def open_and_serve() -> None:
        await node.open()
        await node.serve()

    collecting = asyncio.create_task(_collect(), name="garbage")
    try:
        if await finished_before(stop, open_and_serve()):
            if ready_file is not None:
                _announce(ready_file, node.address, node.metrics_address)
            await stop.wait()
            await node.drain()
    finally:
        collecting.cancel()
        await node.close()


async def _collect() -> None:
    while True:
        await asyncio.sleep(COLLECT_S)
        gc.collect()


def _announce(ready_file: Path, *addresses: str) -> None:
    fresh = ready_file.with_name(ready_file.name + ".new")
    fresh.write_text("\n".join(addresses) + "\n")
    fresh.replace(ready_file)
