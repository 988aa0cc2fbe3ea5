"""`ragmesh collections`: list, create, show, update, delete; and what `snapshots` has of them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.commands import options, reembed, snapshots
from services.commands.connect import find_address
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from ragmesh import Client

app = typer.Typer(
    help="List, create, show, update, compact, keep, restore and delete collections.",
    pretty_exceptions_enable=False,
)
app.command("compact")(snapshots.compact)
app.command("restore")(snapshots.restore)
app.command("reembed")(reembed.reembed)
app.add_typer(snapshots.app, name="snapshot")
_Id = Annotated[str, typer.Argument(help="Id of the collection, such as `papers`.")]
_Storage = Literal["float32", "float16", "int8"]


def _client(address: str, data_dir: options.DataDir) -> Client:
    found_address = find_address(address, data_dir)
    from ragmesh import Client

    return Client(found_address)


@app.callback(invoke_without_command=True)
def collections(
    context: typer.Context,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List the collections, or see the commands."""
    if context.invoked_subcommand is None:
        show_all(address, data_dir, json)


@app.command("list")
def show_all(
    address: options.Address = "", data_dir: options.DataDir = None, json: options.Json = False
) -> None:
    """List the collections."""
    with _client(address, data_dir) as client:
        found = list(client.list_collections())
    if json:
        print_json({"collections": [asdict(one) for one in found]})
        return
    console = stdout()
    if not found:
        console.print("No collections yet: ragmesh ingest PATH --collection NAME makes one.")
        return
    from rich.table import Table

    table = Table()
    for name in ("collection", "model", "dimensions", "metric", "created"):
        table.add_column(name, overflow="fold")
    for one in found:
        created = "" if one.create_time is None else f"{one.create_time:%Y-%m-%d %H:%M}"
        model = one.embedding_model.removeprefix("embeddingModels/") or "own vectors"
        table.add_row(_id(one.name), model, str(one.dimensions), one.metric, created)
    console.print(table)


@app.command("create")
def create(
    collection: _Id,
    dimensions: Annotated[
        int, typer.Option(min=0, help="Of vectors of your own; 0 takes the default model.")
    ] = 0,
    language: Annotated[str, typer.Option(help="Of the words, such as `en`.")] = "",
    vector_storage: Annotated[
        _Storage, typer.Option(help="How vectors are kept where they are searched.")
    ] = "float32",
    token_store: Annotated[
        bool,
        typer.Option(
            "--token-store",
            help="Keep a small vector of every token, to rerank by: 91 KB an abstract.",
        ),
    ] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a collection."""
    with _client(address, data_dir) as client:
        made = client.create_collection(
            collection,
            dimensions=dimensions,
            language=language,
            vector_storage=vector_storage,
            token_store=token_store,
        )
    if json:
        print_json(asdict(made))
    else:
        stdout().print(f"made [bold]{_id(made.name)}[/] ({made.dimensions} dimensions)")


@app.command("show")
def show(
    collection: _Id,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show one collection and its figures."""
    with _client(address, data_dir) as client:
        found = client.get_collection(collection)
        stats = client.get_collection_stats(collection)
    if json:
        print_json({**asdict(found), "stats": asdict(stats)})
        return
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in {**asdict(found), **asdict(stats)}.items():
        table.add_row(name.replace("_", " "), str(value))
    stdout().print(table)


@app.command("update")
def update(
    collection: _Id,
    vector_storage: Annotated[
        _Storage,
        typer.Option(
            help="How vectors are kept where they are searched. Tried first on those that are "
            "there, and refused where searches would find less."
        ),
    ],
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change a collection's settings."""
    with _client(address, data_dir) as client:
        changed = client.update_collection(collection, vector_storage=vector_storage)
    if json:
        print_json(asdict(changed))
    else:
        stdout().print(f"[bold]{_id(changed.name)}[/] keeps vectors as {changed.vector_storage}")


@app.command("delete")
def delete(
    collection: _Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete a collection with everything in it."""
    with _client(address, data_dir) as client:
        found = client.get_collection(collection)
        if not yes:
            stats = client.get_collection_stats(collection)
            stderr().print(f"{_id(found.name)} holds {stats.points} points. This cannot be undone.")
            typer.confirm("Delete it?", abort=True, err=True)
        client.delete_collection(collection)
    if json:
        print_json({"deleted": found.name})
    else:
        stdout().print(f"deleted [bold]{_id(found.name)}[/]")


def _id(name: str) -> str:
    return name.removeprefix("collections/")
