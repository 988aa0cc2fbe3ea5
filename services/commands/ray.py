"""`ragmesh ray`: replace the nodes of a running `ragmesh up --ray`, and keep them, as it does."""

from __future__ import annotations

import asyncio
import json as json_module
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.commands import options
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from services.ray.controller import Controller

app = typer.Typer(
    help="Nodes on Ray, of a mesh that `ragmesh up --ray` runs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
_FAILURE_SEEN_S = 1.0
"""`up` looks for our last words every 0.2 s, as long as we live."""


@app.command("roll")
def roll(
    data_dir: options.DataDir = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=1.0, help="Seconds to wait for the last node.")
    ] = 900.0,
    json: options.Json = False,
) -> None:
    """Replace every node: a new one serves before an old one drains. No call fails of it.

    The new ones run the code that is installed now, with the settings that `up` was started with.
    """
    from services.commands.settings import load
    from services.local.directory import run_directory

    settings = load(data_dir=None if data_dir is None else data_dir.absolute())
    orders = run_directory(settings.data_dir) / "ray.orders"
    if json:
        print_json(_ordered(orders, timeout_s))
        return
    with stderr().status("replacing the nodes, one after the other …"):
        answer = _ordered(orders, timeout_s)
    stdout().print(f"all nodes are new after {answer['seconds']:g} s")


def _ordered(orders: Path, timeout_s: float) -> dict[str, Any]:
    """What the controller answers. Raises ServiceUnavailable where it does not, or says why not."""
    from engine.errors import ServiceUnavailable

    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(timeout_s)
            connection.connect(str(orders))
            connection.sendall(b"roll\n")
            answer = json_module.loads(connection.makefile().readline() or "{}")
    except (OSError, ValueError) as error:
        raise ServiceUnavailable(
            f"no `ragmesh up --ray` takes orders at {orders}: {error}. Is it running on this data "
            "directory, and does Ray answer it?",
            metadata={"path": str(orders), "problem": str(error)},
        ) from error
    if "seconds" not in answer:
        problem = str(answer.get("error", "it ended meanwhile"))
        raise ServiceUnavailable(
            f"not all nodes were replaced: {problem}", metadata={"problem": problem}
        )
    return dict(answer)


@app.command("nodes", hidden=True)
def nodes(
    address: Annotated[str, typer.Option(help="host:port of Ray's head.")],
    deployment: Annotated[str, typer.Option(help="What the nodes on this cluster are called by.")],
    session: Annotated[str, typer.Option(help="One run of `up`.")],
    nodes: Annotated[str, typer.Option(help="Services by node, as `up` takes them.")],
    run_dir: Annotated[Path, typer.Option(help="Where files of a run are.")],
    returning: Annotated[bool, typer.Option(help="Wait for Ray as long as it takes.")] = False,
) -> None:
    """Keep nodes on Ray until told to stop; run by `ragmesh up --ray`."""
    from services.commands.settings import load
    from services.local.mesh import parse_nodes
    from services.local.placement import placements
    from services.logs import configure
    from services.ray.cluster import Wanted
    from services.ray.controller import Controller, Files

    settings = load()
    configure(settings.log_level)
    wanted = Wanted(deployment, session, settings, placements(parse_nodes(nodes), settings.ray))
    files = Files(run_dir / "ray.ready", run_dir / "ray.orders", run_dir / "ray.rolls")
    controller = Controller(wanted, address, files, returning=returning)
    failure = asyncio.run(_run(controller))
    if failure and not returning:
        (run_dir / "ray.failed").write_text(failure)
        time.sleep(_FAILURE_SEEN_S)
    os._exit(1 if failure else 0)  # calls to a Ray that is lost may still be waiting in threads


@app.command("fill", hidden=True)
def fill(
    collection: Annotated[str, typer.Argument(help="Id of the collection.")],
    address: Annotated[str, typer.Option(help="host:port of Ray's head.")],
    actors: Annotated[int, typer.Option(help="At most.")],
    cpus: Annotated[float, typer.Option(help="Of an actor.")],
    json: options.Json = False,
) -> None:
    """Fill a collection's second index; run by `ragmesh collections reembed --ray`."""
    from dataclasses import asdict

    from services.commands.settings import load
    from services.ray.reembed import reembed

    def progress(done: int, ranges: int) -> None:
        print_json({"done": done, "ranges": ranges})

    filled = reembed(load(), collection, address, actors_max=actors, cpus=cpus, progress=progress)
    print_json({"filled": asdict(filled)})


@app.command("ingest", hidden=True)
def ingest(
    collection: Annotated[str, typer.Argument(help="Id of the collection.")],
    address: Annotated[str, typer.Option(help="host:port of Ray's head.")],
    actors: Annotated[int, typer.Option(help="Of each kind at most.")],
    cpus: Annotated[float, typer.Option(help="Of an actor.")],
    gpus: Annotated[float, typer.Option(help="Of an actor that embeds.")] = 0.0,
    json: options.Json = False,
) -> None:
    """Ingest a collection's waiting documents; run by `ragmesh ingest --ray`."""
    from dataclasses import asdict

    from services.commands.settings import load
    from services.ray.ingest import ingest as ingest_on_ray

    def progress(done: int, documents: int) -> None:
        print_json({"done": done, "documents": documents})

    ingested = ingest_on_ray(
        load(),
        collection,
        address,
        readers_max=actors,
        embedders_max=actors,
        cpus=cpus,
        gpus=gpus,
        progress=progress,
    )
    print_json({"ingested": asdict(ingested)})


async def _run(controller: Controller) -> str:
    """What went wrong, which is in the log too; empty for a stop that was asked for."""
    import logging

    from engine.errors import RagmeshError
    from services.commands.signals import stop_event

    try:
        await controller.run(stop_event())
    except RagmeshError as error:
        logging.getLogger(__name__).error("%s", error.message)
        return error.message
    return ""
