"""`ragmesh collections`: list, create, show, update, delete; and what other modules have."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from engine.errors import InvalidField
from services.commands import archives, options, reembed, snapshots
from services.commands import collection_settings as settings
from services.commands.collection_shown import show_changes, show_collection
from services.commands.output import print_json, stderr, stdout

app = typer.Typer(
    help="List, create, show, update, compact, keep, restore, export, import and delete.",
    pretty_exceptions_enable=False,
)
app.command("compact")(snapshots.compact)
app.command("restore")(snapshots.restore)
app.command("export")(archives.export)
app.command("import")(archives.bring)
app.command("reembed")(reembed.reembed)
app.add_typer(snapshots.app, name="snapshot")
_Id = Annotated[str, typer.Argument(help="Id of the collection, such as `papers`.")]


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
    with snapshots.open_client(address, data_dir) as client:
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
    model: settings.Model = "",
    dimensions: settings.Dimensions = 0,
    metric: settings.Metric = "cosine",
    language: settings.Language = "",
    token_store: settings.TokenStore = False,
    display_name: settings.DisplayName = None,
    vector_storage: settings.VectorStorage = None,
    rerank_model: settings.RerankModel = None,
    chunk_tokens_max: settings.ChunkTokensMax = None,
    chunk_overlap_tokens: settings.ChunkOverlapTokens = None,
    chunk_strategy: settings.ChunkStrategy = None,
    hnsw_m: settings.HnswM = None,
    hnsw_ef_construction: settings.HnswEfConstruction = None,
    hnsw_ef_search: settings.HnswEfSearch = None,
    limit_max: settings.LimitMax = None,
    ef_search_max: settings.EfSearchMax = None,
    upsert_points_max: settings.UpsertPointsMax = None,
    payload_bytes_max: settings.PayloadBytesMax = None,
    filter_conditions_max: settings.FilterConditionsMax = None,
    points_max: settings.PointsMax = None,
    bytes_max: settings.BytesMax = None,
    searches_per_second: settings.SearchesPerSecond = None,
    writes_per_second: settings.WritesPerSecond = None,
    recall_sample_share: settings.RecallSampleShare = None,
    recall_target: settings.RecallTarget = None,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a collection."""
    given = dict(locals())
    with snapshots.open_client(address, data_dir) as client:
        made = client.create_collection(
            collection,
            display_name=display_name or "",
            embedding_model=model,
            dimensions=dimensions,
            metric=metric,
            language=language,
            chunking=settings.chunking_of(given),
            hnsw=settings.hnsw_of(given),
            limits=settings.limits_of(given),
            recall=settings.recall_of(given),
            rerank_model=rerank_model or "",
            vector_storage=vector_storage or "float32",
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
    """Show one collection, its figures, and how much of the truth its searches find."""
    with snapshots.open_client(address, data_dir) as client:
        found = client.get_collection(collection)
        stats = client.get_collection_stats(collection)
    if json:
        print_json({**asdict(found), "stats": asdict(stats)})
    else:
        show_collection(found, stats)


@app.command("update")
def update(
    collection: _Id,
    display_name: settings.DisplayName = None,
    vector_storage: settings.VectorStorage = None,
    rerank_model: settings.RerankModel = None,
    chunk_tokens_max: settings.ChunkTokensMax = None,
    chunk_overlap_tokens: settings.ChunkOverlapTokens = None,
    chunk_strategy: settings.ChunkStrategy = None,
    hnsw_m: settings.HnswM = None,
    hnsw_ef_construction: settings.HnswEfConstruction = None,
    hnsw_ef_search: settings.HnswEfSearch = None,
    limit_max: settings.LimitMax = None,
    ef_search_max: settings.EfSearchMax = None,
    upsert_points_max: settings.UpsertPointsMax = None,
    payload_bytes_max: settings.PayloadBytesMax = None,
    filter_conditions_max: settings.FilterConditionsMax = None,
    points_max: settings.PointsMax = None,
    bytes_max: settings.BytesMax = None,
    searches_per_second: settings.SearchesPerSecond = None,
    writes_per_second: settings.WritesPerSecond = None,
    recall_sample_share: settings.RecallSampleShare = None,
    recall_target: settings.RecallTarget = None,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Change a collection's settings; those that are not named stay."""
    given = dict(locals())
    where = ("collection", "address", "data_dir", "json")
    if all(value is None for name, value in given.items() if name not in where):
        raise InvalidField(
            "name what is to change, such as --display-name TEXT; "
            f"`ragmesh collections show {collection}` has the settings as they are",
            metadata={"collection": collection},
        )
    with snapshots.open_client(address, data_dir) as client:
        found = client.get_collection(collection)
        changed = client.update_collection(
            collection,
            display_name=display_name,
            chunking=settings.chunking_of(given, found.chunking),
            hnsw=settings.hnsw_of(given, found.hnsw),
            limits=settings.limits_of(given, found.limits),
            recall=settings.recall_of(given, found.recall),
            rerank_model=rerank_model,
            vector_storage=vector_storage,
        )
    if json:
        print_json(asdict(changed))
    else:
        show_changes(found, changed)


@app.command("delete")
def delete(
    collection: _Id,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete a collection with everything in it."""
    with snapshots.open_client(address, data_dir) as client:
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
