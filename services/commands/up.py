"""`ragmesh up`: the whole mesh on this machine, in the foreground."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from services.local.mesh import LocalMesh
    from services.local.supervisor import PartEvent

_TROUBLE = {
    "exited": "[red]{name} ended: {detail}[/]",
    "restarting": "[yellow]{name} starts again {detail}[/]",
    "crash_loop": "[bold red]{name} keeps failing: {detail}[/]",
    "killed": "[red]{name} was killed: {detail}[/]",
}


def up(
    ray_address: options.RayAddress = None,
    data_dir: options.DataDir = None,
    nodes: Annotated[
        str | None,
        typer.Option(
            help="Services by node, such as `embedding;retrieval;documents,memory,generation,chat` "
            "[default: one node with all]."
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of the gateway; 0 for any [default: 8080, or one that is free]."
        ),
    ] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="Of the first node; 0 for any [default: 50051, or a free one]."
        ),
    ] = None,
    ray: options.Ray = False,
    ray_replicas: options.RayReplicas = None,
    ray_cpus: options.RayCpus = None,
    ray_gpus: options.RayGpus = None,
    postgres_url: options.PostgresUrl = None,
    redis_url: options.RedisUrl = None,
    allow_unauthenticated: options.AllowUnauthenticated = None,
    log_level: options.LogLevel = None,
    json: options.Json = False,
) -> None:
    """Run the whole mesh here: PostgreSQL, Redis, nodes, control plane and Envoy.

    What dies is restarted. Ctrl-C drains and stops everything; a second one does not wait. With
    `--ray [ADDRESS]` the nodes run on a Ray cluster, the rest here.
    """
    from services.commands.settings import load
    from services.local.mesh import LocalMesh, parse_nodes

    if not ray and (ray_address or ray_replicas or ray_cpus or ray_gpus):
        raise typer.BadParameter("an address of Ray, and amounts for it, go with --ray")
    settings = load(
        data_dir=None if data_dir is None else data_dir.absolute(),
        log_level=log_level,
        gateway__listen=None if port is None else f"127.0.0.1:{port}",
        node__listen=None if grpc_port is None else f"127.0.0.1:{grpc_port}",
        node__allow_unauthenticated=allow_unauthenticated,
        store__postgres_url=postgres_url,
        store__redis_url=redis_url,
        ray__replicas=_amounts(ray_replicas),
        ray__cpus=_amounts(ray_cpus),
        ray__gpus=_amounts(ray_gpus),
    )
    teller = _Teller(json)
    mesh = LocalMesh(
        settings,
        nodes=None if nodes is None else parse_nodes(nodes),
        ray=(ray_address or "") if ray else None,
        on_event=teller.tell,
    )
    asyncio.run(_run(mesh, teller, json))


def _amounts(text: str | None) -> dict[str, str] | None:
    from services.local.placement import parse_amounts

    return None if text is None else parse_amounts(text)


def event_line(event: PartEvent) -> str:
    """What an event says to people; empty for the ordinary ones."""
    from rich.markup import escape

    form = _TROUBLE.get(event.kind, "")
    return form.format(name=event.name, detail=escape(event.detail)) if form else ""


class _Teller:
    """Tells what happens to parts: troubles always, their way back once the mesh was ready."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._console = stderr()
        self._troubled: set[str] = set()

    def tell(self, event: PartEvent) -> None:
        line = event_line(event)
        if event.kind in ("exited", "restarting", "crash_loop"):
            self._troubled.add(event.name)
        elif event.kind == "ready" and event.name in self._troubled:
            self._troubled.discard(event.name)
            line = f"[green]{event.name} is ready again[/] (pid {event.pid})"
        if not line:
            return
        if self._as_json:
            print_json({"event": event.kind, "part": event.name, "detail": event.detail})
        else:
            self._console.print(line)


async def _run(mesh: LocalMesh, teller: _Teller, as_json: bool) -> None:
    from services.commands.signals import finished_before, stop_event

    stop = stop_event()
    console = stderr()
    begun_s = time.monotonic()
    try:
        if as_json:
            started = await finished_before(stop, mesh.start())
        else:
            with console.status(f"starting the mesh in {mesh.data_dir} …"):
                started = await finished_before(stop, mesh.start())
        if not started:
            return
        _print_ready(mesh, time.monotonic() - begun_s, as_json)
        await stop.wait()
        if not as_json:
            console.print("draining; Ctrl-C again ends at once")
    finally:
        await mesh.stop()
    if not as_json:
        console.print("stopped")


def _print_ready(mesh: LocalMesh, ready_s: float, as_json: bool) -> None:
    addresses = mesh.addresses
    if as_json:
        print_json(
            {
                "event": "ready",
                "grpc": addresses.grpc,
                "rest": addresses.rest,
                "nodes": dict(zip(mesh.node_names, addresses.nodes, strict=True)),
                "metrics": list(addresses.metrics),
                "data_dir": str(mesh.data_dir),
                "parts": {state.name: state.pid for state in mesh.supervisor.states()},
                "ready_s": round(ready_s, 2),
            }
        )
        return
    from rich.table import Table

    table = Table(title=f"ragmesh is ready after {ready_s:.1f} s", title_justify="left")
    table.add_column("door")
    table.add_column("address", overflow="fold")
    table.add_row("gRPC", addresses.grpc)
    table.add_row("REST, SSE, gRPC-Web", addresses.rest)
    table.add_row("OpenAPI", f"{addresses.rest}/openapi.json")
    for name, address in zip(mesh.node_names, addresses.metrics, strict=False):
        table.add_row(f"metrics of {name}", f"http://{address}/metrics")
    table.add_row("data and logs", str(mesh.data_dir))
    console = stdout()
    console.print(table)
    console.print("Ctrl-C stops it. Next: [bold]ragmesh ingest[/] PATH --collection NAME")
