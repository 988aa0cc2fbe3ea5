"""`ragmesh ingest --ray`: Ray Data jobs beside the nodes, on what waits in a collection."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from collections.abc import Coroutine
from dataclasses import dataclass
from json import loads
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from engine.errors import FailedPrecondition
from services.commands.output import stderr

if TYPE_CHECKING:
    from pathlib import Path

    from services.config import Settings

PAUSE_S = 2.0
"""Between two jobs: while documents are sent, the next one has what came meanwhile."""
STOP_S = 20.0
"""For a job that is told to stop, to give back what it has. What it kept is a node's after a
minute."""
IN_FLIGHT_MAX = 100_000
"""Documents that may wait at once, so that a job has all it can take."""


RayHead: TypeAlias = Annotated[
    str,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on them by Ray Data jobs too: host:port of its head. Needs --postgres-url, and "
        "the settings of models and objects as a node has them.",
    ),
]
RayActors: TypeAlias = Annotated[
    int, typer.Option(min=1, help="With --ray: actors that read, and that embed, at most.")
]
RayCpus: TypeAlias = Annotated[float, typer.Option(min=0.1, help="With --ray: CPUs of an actor.")]
RayGpus: TypeAlias = Annotated[
    float, typer.Option(min=0, help="With --ray: GPUs of an actor that embeds.")
]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where jobs run, and on how much of it: `actors` that read and as many that embed."""

    settings: Settings
    address: str
    actors: int
    cpus: float
    gpus: float


def on_cluster(
    address: str,
    actors: int,
    cpus: float,
    gpus: float,
    *,
    postgres_url: str | None,
    data_dir: Path | None,
) -> Cluster | None:
    """What `--ray` and its options say; None without it. Raises FailedPrecondition without a
    database, and ServiceUnavailable without a cluster."""
    if not address:
        return None
    from services.commands.settings import load
    from services.local.ray_parts import check_cluster

    settings = load(data_dir=data_dir, store__postgres_url=postgres_url)
    if not settings.store.postgres_url.get_secret_value():
        raise FailedPrecondition(
            "the job reads and writes PostgreSQL itself: give --postgres-url or "
            "RAGMESH_STORE__POSTGRES_URL, as the nodes have it"
        )
    check_cluster(address)
    return Cluster(settings, address, actors, cpus, gpus)


async def beside(work: Coroutine[Any, Any, None], cluster: Cluster, collection: str) -> None:
    """Runs `work` to its end, and jobs on the cluster until then. Where Ray fails, nodes go on
    alone, and it is said."""
    doing = asyncio.create_task(work)
    try:
        while not doing.done():
            if problem := await _job(cluster, collection, doing):
                stderr().print(f"Ray takes no part from here on: {problem}", markup=False)
                break
            await asyncio.wait([doing], timeout=PAUSE_S)
        await doing
    finally:
        doing.cancel()
        await asyncio.gather(doing, return_exceptions=True)


async def _job(cluster: Cluster, collection: str, doing: asyncio.Task[None]) -> str:
    """One job, or as much of it as goes by while `doing` lasts; what went wrong."""
    from services.config import to_environment
    from services.local.process import environment, launch_argv, own_argv
    from services.local.ray_parts import driver_environment

    words = ("--address", cluster.address, "--actors", str(cluster.actors))
    shares = ("--cpus", str(cluster.cpus), "--gpus", str(cluster.gpus))
    settings = cluster.settings
    process = await asyncio.create_subprocess_exec(
        *launch_argv(own_argv("ray", "ingest", collection, *words, *shares, "--json")),
        env=environment({**to_environment(settings), **driver_environment(settings)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    ending = asyncio.create_task(process.communicate())
    try:
        await asyncio.wait({ending, doing}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            return ""
        _, said = ending.result()
        return "" if process.returncode == 0 else _problem(said)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)  # it gives back what it has
            _, pending = await asyncio.wait({ending}, timeout=STOP_S)
            if pending:
                process.kill()
        await asyncio.gather(ending, return_exceptions=True)


def _problem(said: bytes) -> str:
    last = said.decode(errors="replace").strip().splitlines()[-1:] or ["it said nothing"]
    try:
        return str(loads(last[0])["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return last[0]
