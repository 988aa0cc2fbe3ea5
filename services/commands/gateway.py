"""`ragmesh gateway`: the control plane and Envoy, for nodes that run elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stderr

if TYPE_CHECKING:
    from services.config import Settings
    from services.local.supervisor import PartEvent


def gateway(
    redis_url: options.RedisUrl = None,
    listen: Annotated[
        str | None, typer.Option(help="host:port for REST, SSE, gRPC and gRPC-Web.")
    ] = None,
    ads_listen: Annotated[
        str | None, typer.Option(help="host:port of the control plane, for nodes.")
    ] = None,
    admin_listen: Annotated[
        str | None, typer.Option(help="host:port of Envoy's admin; keep it on loopback.")
    ] = None,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="For logs and state [default: `gateway` beside the mesh's own data]."),
    ] = None,
    allow_unauthenticated: options.AllowUnauthenticated = None,
    json: options.Json = False,
) -> None:
    """Run Envoy and the control plane that configures it, from the registry in Redis."""
    from services.commands.settings import load

    settings = load(
        data_dir=data_dir,
        store__redis_url=redis_url,
        gateway__listen=listen,
        gateway__ads_listen=ads_listen,
        gateway__admin_listen=admin_listen,
        node__allow_unauthenticated=allow_unauthenticated,
    )
    root = (
        settings.data_dir
        if data_dir is not None
        else settings.data_dir.parent / (settings.data_dir.name + "-gateway")
    )
    asyncio.run(_run(settings, root, json))


async def _run(settings: Settings, root: Path, as_json: bool) -> None:
    from engine.errors import InvalidField
    from services.commands.signals import finished_before, stop_event
    from services.commands.up import event_line
    from services.config import check_exposure
    from services.local.directory import hold
    from services.local.gateway import gateway_parts
    from services.local.supervisor import Supervisor

    if not settings.store.redis_url.get_secret_value():
        raise InvalidField(
            "The gateway reads the registry in Redis. Give --redis-url or "
            "RAGMESH_STORE__REDIS_URL, or use `ragmesh up`, which starts one.",
            field="store.redis_url",
        )
    given = settings.gateway
    for field in ("listen", "ads_listen", "admin_listen"):
        allowed = settings.node.allow_unauthenticated and field != "admin_listen"
        check_exposure(f"gateway.{field}", getattr(given, field), allowed)
    console = stderr()

    def tell(event: PartEvent) -> None:
        line = event_line(event)
        if line and not as_json:
            console.print(line)

    stop = stop_event()
    with hold(root) as held:
        supervisor = Supervisor(gateway_parts(held.directory, settings), on_event=tell)
        try:
            if not await finished_before(stop, supervisor.start()):
                return
            held.describe({"REST": f"http://{given.listen}", "control plane": given.ads_listen})
            if as_json:
                print_json({"rest": f"http://{given.listen}", "control_plane": given.ads_listen})
            else:
                console.print(
                    f"[green]ready[/]: http://{given.listen}, control plane {given.ads_listen}, "
                    f"logs in {held.directory.logs}"
                )
            await stop.wait()
        finally:
            await supervisor.stop()
