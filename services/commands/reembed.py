"""`ragmesh collections reembed`: another embedding model or graph, behind a second index."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from engine.errors import FailedPrecondition, ServiceUnavailable
from services.commands import options
from services.commands.connect import find_address
from services.commands.output import print_json, stderr, stdout
from services.commands.settings import load

if TYPE_CHECKING:
    from ragmesh import Client, Migration

    from services.config import Settings

LOOK_S = 0.5
PROBLEM_S = 30.0
"""How long the same problem may last before we stop waiting; the migration itself does not."""

FLIP_S = 60.0
_OVERLAP_DEPTH = 10


def reembed(
    collection: Annotated[str, typer.Argument(help="Id of the collection, such as `papers`.")],
    model: Annotated[
        str, typer.Option("--model", help="Embedding model of the new index, such as `default`.")
    ] = "",
    m: Annotated[int, typer.Option("--m", min=0, help="Links of a node in its graph.")] = 0,
    ef_construction: Annotated[
        int, typer.Option("--ef-construction", min=0, help="Candidates when a point is added.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait", help="Until it has everything.")] = False,
    flip: Annotated[
        bool, typer.Option("--flip", help="Wait, then have searches answered by the new index.")
    ] = False,
    overlap_min: Annotated[
        float,
        typer.Option(min=0, max=1, help="Flip only if so many hits are the same in both indexes."),
    ] = 0.0,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="Have them answered by the old index again.")
    ] = False,
    end: Annotated[
        bool, typer.Option("--end", help="Remove the index that does not answer.")
    ] = False,
    ray: Annotated[
        str,
        typer.Option(
            "--ray",
            metavar="ADDRESS",
            help="Fill the new index by a Ray Data job: host:port of its head. Needs "
            "--postgres-url, and the settings of the models as a node has them.",
        ),
    ] = "",
    ray_actors: Annotated[int, typer.Option(min=1, help="With --ray: actors at most.")] = 4,
    ray_cpus: Annotated[float, typer.Option(min=0.1, help="With --ray: CPUs of an actor.")] = 1.0,
    postgres_url: options.PostgresUrl = None,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change a collection's embedding model or graph while it is used, behind a second index that
    gets every write too; without options, show how far that is. Ctrl-C leaves it going."""
    if roll_back and flip:
        raise typer.BadParameter("give one of --flip and --roll-back")
    settings = load(data_dir=data_dir, store__postgres_url=postgres_url)
    _require_postgres(settings, ray)
    found_address = find_address(address, data_dir)
    from ragmesh import Client

    with Client(found_address) as client:
        if model or m or ef_construction:
            _start(client, collection, model, m, ef_construction)
        found = _present(client, collection)
    filled = None
    if ray:
        # Between two clients: Ray forks, which gRPC does not like.
        filled = _fill(settings, collection, ray, ray_actors, ray_cpus, quiet=json)
    with Client(found_address) as client:
        if wait or flip or ray:
            found = _waited(client, collection, quiet=json)
        if flip or roll_back:
            found = client.flip_migration(
                collection, roll_back=roll_back, overlap_min=overlap_min, timeout_s=FLIP_S
            )
        if end:
            client.end_migration(collection)
    if json:
        print_json({**asdict(found), "ended": end, "ray": filled})
    else:
        _show(collection, found, ended=end)


def _require_postgres(settings: Settings, ray: str) -> None:
    if ray and not settings.store.postgres_url.get_secret_value():
        raise FailedPrecondition(
            "the job writes to PostgreSQL itself: give --postgres-url or "
            "RAGMESH_STORE__POSTGRES_URL, as the nodes have it"
        )


def _start(client: Client, collection: str, model: str, m: int, ef_construction: int) -> None:
    """Begins, or finds that the same was begun before."""
    from ragmesh import HnswSettings, MigrationExists

    hnsw = HnswSettings(m, ef_construction, 0)
    try:
        client.start_migration(collection, embedding_model=model, hnsw=hnsw)
    except MigrationExists:
        present = client.get_migration(collection)
        same_model = not model or model in (
            present.embedding_model,
            present.embedding_model.removeprefix("embeddingModels/"),
        )
        if not same_model or m not in (0, present.hnsw.m):
            raise
        if ef_construction not in (0, present.hnsw.ef_construction):
            raise


def _present(client: Client, collection: str) -> Migration:
    """How far it is. Raises MigrationNotFound, which says how to begin one here."""
    from ragmesh import MigrationNotFound

    try:
        return client.get_migration(collection)
    except MigrationNotFound as error:
        raise MigrationNotFound(
            f"{collection} has no second index. --model begins one with another embedding model, "
            "--m or --ef-construction one with another graph.",
            reason=error.reason,
            metadata=error.metadata,
            request_id=error.request_id,
        ) from error


def _fill(
    settings: Settings, collection: str, address: str, actors: int, cpus: float, *, quiet: bool
) -> dict[str, int]:
    """Has Ray fill the new index, in a process of its own; what it did. Raises ServiceUnavailable
    with what it said."""
    import subprocess
    from json import loads

    from services.config import to_environment
    from services.local.process import environment, launch_argv, own_argv
    from services.local.ray_parts import check_cluster, driver_environment

    check_cluster(address)
    words = ("--address", address, "--actors", str(actors), "--cpus", str(cpus), "--json")
    job = subprocess.Popen(
        launch_argv(own_argv("ray", "fill", collection, *words)),
        env=environment({**to_environment(settings), **driver_environment(settings)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    filled: dict[str, int] = {}
    assert job.stdout is not None and job.stderr is not None
    with job, stderr().status(f"filling the new index of {collection} on Ray …") as status:
        for line in job.stdout:
            said = loads(line) if line.startswith("{") else {}
            filled = said.get("filled", filled)
            if "done" in said and not quiet:
                status.update(
                    f"filled {said['done']} of {said['ranges']} ranges of {collection} on Ray …"
                )
        problem = job.stderr.read().strip().splitlines()[-1:] or ["it said nothing"]
    if job.returncode == 0:
        return filled
    error = loads(problem[0]) if problem[0].startswith("{") else {}
    raise ServiceUnavailable(
        error.get("error", {}).get("message", f"the job on Ray failed: {problem[0]}"),
        metadata={"status": job.returncode},
    )


def _waited(client: Client, collection: str, *, quiet: bool) -> Migration:
    """The migration once it is ready. Raises FailedPrecondition for a problem that stays."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn(f"building the new index of {collection}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    problem, since_s = "", time.monotonic()
    try:
        console = stderr()
        quiet = quiet or not console.is_terminal
        with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
            task = bar.add_task("")
            while True:
                found = client.get_migration(collection)
                if found.state != "building":
                    return found
                done = found.points - found.points_left
                bar.update(task, total=found.points, completed=done)
                if found.problem != problem:
                    problem, since_s = found.problem, time.monotonic()
                if problem and time.monotonic() - since_s > PROBLEM_S:
                    raise FailedPrecondition(
                        f"the migration of {collection} does not go on: {problem}. It is tried "
                        "again until you end it with --end.",
                        metadata={"collection": collection, "problem": problem},
                    )
                time.sleep(LOOK_S)
    except KeyboardInterrupt:
        stderr().print(
            f"The migration goes on. `ragmesh collections reembed {collection}` shows how far; "
            "--end ends it."
        )
        raise


def _show(collection: str, found: Migration, *, ended: bool) -> None:
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    model = found.embedding_model.removeprefix("embeddingModels/") or "own vectors"
    done = found.points - found.points_left
    hnsw = found.hnsw
    rows = {
        "state": "ended" if ended else found.state,
        "problem": found.problem,
        "new model": f"{model} ({found.dimensions} dimensions)",
        "new graph": f"m {hnsw.m}, ef_construction {hnsw.ef_construction}",
        "points in both": f"{done:,} of {found.points:,}",
    }
    if found.queries:
        depth = _OVERLAP_DEPTH
        rows[f"overlap@{depth}"] = f"{found.overlap:.4f} of {found.queries} queries"
        rows[f"recall@{depth}"] = f"{found.recall_before:.4f}, new {found.recall_after:.4f}"
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    stdout().print(table)
    steps = {
        "building": "--wait shows how far it is until it is done; --end drops it",
        "ready": "--flip has searches answered by the new index",
        "flipped": "--roll-back has them answered by the old one again; --end removes it",
    }
    if not ended and found.state in steps:
        stdout().print(f"Next: ragmesh collections reembed {collection} {steps[found.state]}")
