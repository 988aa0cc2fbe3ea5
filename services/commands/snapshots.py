"""`ragmesh collections compact`, `… snapshot create|list|show|delete` and `… restore`."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from engine.errors import InvalidField
from services.commands import collection_settings as settings
from services.commands import options
from services.commands.connect import find_address
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from ragmesh import Client, Compaction, Snapshot

T = TypeVar("T")

TRY_S = 60.0
"""How long one call waits; the work goes on, and the next call joins it."""

app = typer.Typer(help="Keep collections as they are.", pretty_exceptions_enable=False)
_Collection = Annotated[str, typer.Argument(help="Id of the collection, such as `papers`.")]
_Snapshot = Annotated[
    str, typer.Argument(help="`papers/monday`, or `collections/papers/snapshots/monday`.")
]
_Timeout = Annotated[
    float, typer.Option("--timeout", min=1, help="Seconds to wait; the work goes on after it.")
]


def compact(
    collection: _Collection,
    full: Annotated[
        bool, typer.Option("--full", help="Build every segment anew, with the present settings.")
    ] = False,
    queries: Annotated[
        int, typer.Option(min=1, max=1_000, help="Queries that recall is compared on.")
    ] = 64,
    timeout_s: _Timeout = 3_600,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Give back what deleted and replaced points take.

    Exits with 1 if searches would have found less, so that nothing was changed.
    """
    with open_client(address, data_dir) as client:
        receipt = _patiently(
            f"compacting {collection}",
            timeout_s,
            lambda seconds: client.compact_collection(
                collection, full=full, queries=queries, timeout_s=seconds
            ),
        )
    if json:
        print_json(asdict(receipt))
    else:
        _show_receipt(receipt)
    if receipt.rolled_back:
        raise typer.Exit(1)


@app.command("create")
def create(
    collection: _Collection,
    snapshot_id: Annotated[str, typer.Argument(help="Its id; made up if left out.")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Keep a collection as it is now."""
    with open_client(address, data_dir) as client:
        made = client.create_snapshot(collection, snapshot_id, timeout_s=600)
    if json:
        print_json(asdict(made))
    else:
        stdout().print(f"kept [bold]{short_name(made.name)}[/] ({made.points} points)")


@app.command("list")
def show_all(
    collection: _Collection,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List a collection's snapshots."""
    with open_client(address, data_dir) as client:
        found = list(client.list_snapshots(collection))
    if json:
        print_json({"snapshots": [asdict(one) for one in found]})
    elif found:
        _show_table(found)
    else:
        stdout().print(f"None yet: ragmesh collections snapshot create {collection} makes one.")


@app.command("show")
def show(
    snapshot: _Snapshot,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show one snapshot."""
    with open_client(address, data_dir) as client:
        found = client.get_snapshot(snapshot_name_of(snapshot))
    if json:
        print_json(asdict(found))
    else:
        _show_table([found])


@app.command("delete")
def delete(
    snapshot: _Snapshot,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete a snapshot; its collection stays as it is."""
    name = snapshot_name_of(snapshot)
    with open_client(address, data_dir) as client:
        client.delete_snapshot(name)
    if json:
        print_json({"deleted": name})
    else:
        stdout().print(f"deleted [bold]{short_name(name)}[/]")


def restore(
    snapshot: _Snapshot,
    collection: Annotated[str, typer.Argument(help="Id of the new collection.")],
    points_max: settings.PointsMax = None,
    bytes_max: settings.BytesMax = None,
    timeout_s: _Timeout = 3_600,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a new collection of a snapshot.

    A limit that is named here replaces all limits that the collection had.
    """
    limits = settings.limits_of({"points_max": points_max, "bytes_max": bytes_max})
    name, request_id = snapshot_name_of(snapshot), str(uuid.uuid4())
    with open_client(address, data_dir) as client:
        restored = _patiently(
            f"restoring {short_name(name)}",
            timeout_s,
            lambda seconds: client.restore_snapshot(
                name, collection, limits=limits, request_id=request_id, timeout_s=seconds
            ),
        )
    if json:
        print_json(asdict(restored))
    else:
        stdout().print(f"restored [bold]{collection}[/] ({restored.points} points)")


def open_client(address: str, data_dir: options.DataDir) -> Client:
    """A client of the mesh that is meant."""
    found_address = find_address(address, data_dir)
    from ragmesh import Client

    return Client(found_address)


def _patiently(what: str, timeout_s: float, work: Callable[[float], T]) -> T:
    """What `work` returns, called again where its time is over and ours is not."""
    from ragmesh import DeadlineExceeded

    give_up_s = time.monotonic() + timeout_s
    with stderr().status(f"{what} …"):
        while True:
            left_s = give_up_s - time.monotonic()
            try:
                return work(max(1.0, min(TRY_S, left_s)))
            except DeadlineExceeded:
                if left_s <= TRY_S:
                    raise


def _show_receipt(receipt: Compaction) -> None:
    from rich.table import Table

    table = Table()
    for name in ("", "before", "after"):
        table.add_column(name)
    for name in ("segments", "disk_kib", "index_kib", "resident_kib"):
        before, after = getattr(receipt.before, name), getattr(receipt.after, name)
        table.add_row(name.replace("_kib", " KiB"), f"{before:,}", f"{after:,}")
    table.add_row("recall@10", f"{receipt.recall_before:.4f}", f"{receipt.recall_after:.4f}")
    console = stdout()
    console.print(table)
    if receipt.rolled_back:
        stderr().print(f"thrown away: {receipt.reason}")
        return
    removed, points = receipt.tombstones_removed, receipt.points
    seconds = receipt.compact_ms / 1_000
    console.print(f"removed {removed:,} tombstones beside {points:,} points in {seconds:.1f} s")


def _show_table(found: list[Snapshot]) -> None:
    from rich.table import Table

    table = Table()
    for name in ("snapshot", "points", "KiB", "watermark", "made"):
        table.add_column(name, overflow="fold")
    for one in found:
        made = "" if one.create_time is None else f"{one.create_time:%Y-%m-%d %H:%M}"
        table.add_row(short_name(one.name), str(one.points), str(one.size_kib), one.watermark, made)
    stdout().print(table)


def snapshot_name_of(snapshot: str) -> str:
    """`collections/{id}/snapshots/{id}` from itself or from `{id}/{id}`."""
    parts = snapshot.split("/")
    if len(parts) == 4:
        return snapshot
    if len(parts) != 2 or not all(parts):
        raise InvalidField(
            f"{snapshot!r} names no snapshot; give COLLECTION/SNAPSHOT, such as papers/monday",
            field="snapshot",
            metadata={"snapshot": snapshot},
        )
    return f"collections/{parts[0]}/snapshots/{parts[1]}"


def short_name(name: str) -> str:
    """`{id}/{id}` of a snapshot's name."""
    _, collection, _, snapshot = name.split("/")
    return f"{collection}/{snapshot}"
