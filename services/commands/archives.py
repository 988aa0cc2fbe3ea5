"""`ragmesh collections export` and `import`: snapshots as files that leave the mesh."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from engine.errors import FailedPrecondition
from services.commands import collection_settings as settings
from services.commands import options
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client, short_name, snapshot_name_of

if TYPE_CHECKING:
    from ragmesh import Client, Snapshot

TRIES_MAX = 6
"""Of going on with a copy, without a byte more between two of them."""
PAUSE_S = 1.0
_TIMEOUT_S = 24 * 3_600.0
_TIMEOUT_MAX_S = 30 * _TIMEOUT_S
_MADE = re.compile(r"export-until-([0-9]{8}t[0-9]{6})-[0-9a-f]{8}")
_UNTIL = "%Y%m%dt%H%M%S"

Progress = Callable[[int, int], None]
_Timeout = Annotated[
    float, typer.Option("--timeout", min=1, max=_TIMEOUT_MAX_S, help="Seconds for all of it.")
]


def export(
    name: Annotated[
        str, typer.Argument(help="A collection as it is now, or `papers/monday`, a snapshot.")
    ],
    file: Annotated[Path, typer.Argument(help="The file to make.", dir_okay=False)],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace a file of that name.")
    ] = False,
    timeout_s: _Timeout = _TIMEOUT_S,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Write a collection, or a snapshot of one, to a file for `import`.

    The file has its name once it is whole. A copy of a snapshot that breaks off goes on where it
    stopped when the command is run again; one of a collection begins anew.
    """
    if file.exists() and not replace:
        raise FailedPrecondition(
            f"{file} exists. Choose another name, or replace it with --replace.",
            metadata={"path": str(file)},
        )
    with open_client(address, data_dir) as client, _part_of(file) as part:
        if "/" in name:
            done = _copied(client, snapshot_name_of(name), part, timeout_s)
        else:
            part.unlink(missing_ok=True)
            done = _of_now(client, name, part, timeout_s)
        snapshot, sha256 = done
        os.replace(part, file)
        size = file.stat().st_size
    if json:
        shown = {"file": str(file), "size_bytes": size, "sha256": sha256}
        print_json({**shown, "snapshot": asdict(snapshot)})
    else:
        stdout().print(f"exported [bold]{file}[/] ({snapshot.points} points, {size:,} bytes)")
        stdout().print(f"Next, in any mesh: ragmesh collections import {file} NAME")


def bring(
    file: Annotated[Path, typer.Argument(help="What `export` wrote.", exists=True, dir_okay=False)],
    collection: Annotated[str, typer.Argument(help="Id of the new collection.")],
    points_max: settings.PointsMax = None,
    bytes_max: settings.BytesMax = None,
    timeout_s: _Timeout = _TIMEOUT_S,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Make a new collection of a file that `export` wrote: all of it, or nothing.

    A limit that is named here replaces all limits that the collection had.
    """
    limits = settings.limits_of({"points_max": points_max, "bytes_max": bytes_max})
    request_id = str(uuid.uuid4())
    with (
        open_client(address, data_dir) as client,
        _bar(f"importing {file.name}") as progress,
        file.open("rb") as opened,
    ):
        made = client.import_snapshot(
            _Counted(opened, file.stat().st_size, progress),  # type: ignore[arg-type]
            collection,
            limits=limits,
            request_id=request_id,
            timeout_s=timeout_s,
        )
    if json:
        print_json(asdict(made))
    else:
        stdout().print(f"imported [bold]{collection}[/] ({made.points} points)")


@contextmanager
def _part_of(file: Path) -> Iterator[Path]:
    """The place of what is written beside a file until it is whole; nothing empty stays there.
    Raises FailedPrecondition where the disk refuses."""
    part = file.with_name(f"{file.name}.part")
    try:
        # Before a snapshot is made that would have to go again.
        part.open("ab").close()
        try:
            yield part
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
    except OSError as error:
        raise FailedPrecondition(
            f"{file} cannot be written: {error.strerror}. Name another place, or make room there.",
            metadata={"path": str(file), "problem": str(error.strerror)},
        ) from error


def _of_now(client: Client, collection: str, part: Path, timeout_s: float) -> tuple[Snapshot, str]:
    """The collection as it is, by a snapshot that is gone afterwards. Its id says how long it is
    needed at most: of an export that was killed, the next one deletes it."""
    from ragmesh import RagmeshError

    _delete_left(client, collection)
    until = datetime.now(UTC) + timedelta(seconds=timeout_s)
    snapshot_id = f"export-until-{until.strftime(_UNTIL)}-{uuid.uuid4().hex[:8]}"
    made = client.create_snapshot(collection, snapshot_id, timeout_s=600)
    try:
        return _copied(client, made.name, part, timeout_s)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        try:
            client.delete_snapshot(made.name)
        except RagmeshError as error:  # not worth the file that was copied
            name = short_name(made.name)
            stderr().print(f"{name} could not be deleted: {error.message}", soft_wrap=True)


def _delete_left(client: Client, collection: str) -> None:
    """Deletes what exports of this collection left that were killed."""
    from ragmesh import SnapshotNotFound

    now = datetime.now(UTC).strftime(_UNTIL)
    for one in client.list_snapshots(collection):
        made = _MADE.fullmatch(one.name.rpartition("/")[2])
        if made is not None and made[1] < now:
            with contextlib.suppress(SnapshotNotFound):
                client.delete_snapshot(one.name)


def _copied(client: Client, name: str, part: Path, timeout_s: float) -> tuple[Snapshot, str]:
    """Makes `part` the whole file of a snapshot, from where it ends. Its snapshot and SHA-256."""
    from ragmesh import InvalidArgument, StreamCut, Unavailable

    give_up_s, tries = time.monotonic() + timeout_s, 0
    with _bar(f"exporting {short_name(name)}") as progress, part.open("ab") as file:
        while True:
            before = file.tell()
            try:
                return _received(client, name, file, give_up_s - time.monotonic(), progress)
            except InvalidArgument:
                if not before:
                    raise
                # It goes beyond the end, so it was begun of another snapshot.
                file.seek(0)
                file.truncate()
                continue
            except (StreamCut, Unavailable):
                tries = 1 if file.tell() > before else tries + 1
                if tries >= TRIES_MAX or time.monotonic() + PAUSE_S >= give_up_s:
                    raise
            time.sleep(PAUSE_S)


def _received(
    client: Client, name: str, file: IO[bytes], timeout_s: float, progress: Progress
) -> tuple[Snapshot, str]:
    offset = file.tell()
    pieces = client.export_snapshot(name, offset_bytes=offset, timeout_s=max(1.0, timeout_s))
    with pieces:
        for piece in pieces:
            file.write(piece.data)
            progress(file.tell(), piece.size_bytes)
    file.flush()
    os.fsync(file.fileno())
    with open(file.name, "rb") as whole:
        found = hashlib.file_digest(whole, "sha256").hexdigest()
    if found != piece.content_sha256:
        with contextlib.suppress(OSError):
            os.unlink(file.name)
        from ragmesh import DataCorrupted

        raise DataCorrupted(
            f"What came of {short_name(name)} is not what the mesh gave, so it was removed. Run "
            "the command again.",
            metadata={"sha256": found, "content_sha256": piece.content_sha256},
        )
    return piece.snapshot, found


class _Counted:
    """A file that tells how far it was read."""

    def __init__(self, file: IO[bytes], size: int, progress: Progress) -> None:
        self._file, self._size, self._progress = file, size, progress

    def read(self, size: int) -> bytes:
        """Reads on."""
        data = self._file.read(size)
        self._progress(self._file.tell(), self._size)
        return data

    def seek(self, place: int) -> int:
        """Goes back, where it is sent again."""
        return self._file.seek(place)

    def tell(self) -> int:
        """Where it stands."""
        return self._file.tell()

    def seekable(self) -> bool:
        """It is a file on a disk."""
        return True


@contextmanager
def _bar(what: str) -> Iterator[Progress]:
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    console = stderr()
    shown = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    with shown as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size or None)
