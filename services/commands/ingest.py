"""`ragmesh ingest`: files and folders into a collection."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.errors import DocumentUnreadable, InvalidField, UnsupportedMediaType
from services.commands import options
from services.commands.connect import find_address
from services.commands.ingestion import Item, Outcome, ingest_all
from services.commands.output import print_json, stderr, stdout

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob, StoredDocument

_SAMPLE_BYTES = 65_536
_FILES_SHOWN_MAX = 6
_REASONS_SHOWN_MAX = 40


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files, and folders with all below them.")],
    collection: options.Collection,
    replace: Annotated[
        bool, typer.Option("--replace", help="Ingest anew what is there and has changed.")
    ] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ingest documents of any kind that is known, and wait until they can be searched.

    A file is known by its path: one that is there already is skipped. Exits with 1 if a file
    failed.
    """
    missing = [path for path in paths if not path.exists()]
    if missing:
        raise InvalidField(
            f"{missing[0]} does not exist", field="paths", metadata={"path": str(missing[0])}
        )
    found_address = find_address(address, data_dir)
    run = _Run(found_address, collection, replace, json)
    try:
        asyncio.run(run.ingest(paths))
    except KeyboardInterrupt:
        stderr().print("interrupted: what was sent is being ingested all the same")
        raise
    run.report()
    if any(outcome.result == "failed" for outcome in run.outcomes):
        raise typer.Exit(1)


class _Run:
    """One ingestion, and what is told of it."""

    def __init__(self, address: str, collection: str, replace: bool, as_json: bool) -> None:
        self._address = address
        self._collection = collection
        self._replace = replace
        self._as_json = as_json
        self._begun_s = time.monotonic()
        self.outcomes: list[Outcome] = []
        self.made_collection = False

    async def ingest(self, paths: Sequence[Path]) -> None:
        from ragmesh import AsyncClient, CollectionNotFound

        files, refused = _sorted_out(paths)
        self.outcomes += refused
        async with AsyncClient(self._address, lane="bulk") as client:
            try:
                await client.get_collection(self._collection)
            except CollectionNotFound:
                await client.create_collection(self._collection)
                self.made_collection = True
                if not self._as_json:
                    stderr().print(f"made the collection [bold]{self._collection}[/]")
            items = [Item(str(path), self._sender(path)) for path in files]
            self.outcomes += await self._shown(client, items)

    def _sender(self, path: Path) -> Any:
        document_id = document_id_of(path)
        uri = path.resolve().as_uri()

        async def send(client: AsyncClient) -> StoredDocument:
            from ragmesh import DocumentExists

            try:
                return await client.upload_document(
                    self._collection, path, document_id=document_id, source_uri=uri
                )
            except DocumentExists:
                document = await client.get_document(document_id, collection=self._collection)
                same = document.content_sha256 == await asyncio.to_thread(_sha256, path)
                if same and document.state != "failed":
                    raise DocumentExists("is there already, unchanged") from None
                if not self._replace and document.state != "failed":
                    raise DocumentExists(
                        "is there already, and the file has changed since: --replace"
                    ) from None
            await client.delete_document(document_id, collection=self._collection)
            return await client.upload_document(
                self._collection, path, document_id=document_id, source_uri=uri
            )

        return send

    async def _shown(self, client: AsyncClient, items: Sequence[Item]) -> Sequence[Outcome]:
        if self._as_json or not items:
            return await ingest_all(client, items)
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=stderr(), transient=True) as progress:
            whole = progress.add_task("all files", total=len(items))
            bars: dict[str, Any] = {}

            def on_progress(item: Item, job: IngestJob) -> None:
                if item.label not in bars and len(bars) < _FILES_SHOWN_MAX:
                    bars[item.label] = progress.add_task(Path(item.label).name, total=None)
                if item.label in bars:
                    total = job.passages_total or None
                    progress.update(bars[item.label], completed=job.passages_done, total=total)

            def on_outcome(outcome: Outcome) -> None:
                progress.advance(whole)
                if outcome.label in bars:
                    progress.remove_task(bars.pop(outcome.label))

            return await ingest_all(client, items, on_progress=on_progress, on_outcome=on_outcome)

    def report(self) -> None:
        """Say how it went."""
        counts = Counter(outcome.result for outcome in self.outcomes)
        seconds = time.monotonic() - self._begun_s
        passages = sum(outcome.passages for outcome in self.outcomes)
        if self._as_json:
            print_json(
                {
                    "collection": self._collection,
                    "collection_made": self.made_collection,
                    **{name: counts[name] for name in ("ingested", "skipped", "failed")},
                    "passages": passages,
                    "seconds": round(seconds, 3),
                    "files": [asdict(outcome) for outcome in self.outcomes],
                }
            )
            return
        console = stdout()
        left_out = [outcome for outcome in self.outcomes if outcome.result != "ingested"]
        if left_out:
            _print_left_out(console, left_out)
        if not self.outcomes:
            console.print("There is no file below what you named.")
            return
        console.print(
            f"[bold]{counts['ingested']}[/] ingested ({passages} passages), "
            f"{counts['skipped']} skipped, {counts['failed']} failed in {seconds:.1f} s"
        )
        if counts["ingested"]:
            console.print(f"Next: ragmesh ask QUESTION --collection {self._collection}")


def _print_left_out(console: Any, left_out: Sequence[Outcome]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="not ingested", title_justify="left")
    for name in ("file", "", "why"):
        table.add_column(name, overflow="fold")
    for outcome in left_out[:_REASONS_SHOWN_MAX]:
        color = "red" if outcome.result == "failed" else "yellow"
        table.add_row(
            escape(outcome.label), f"[{color}]{outcome.result}[/]", escape(outcome.message)
        )
    console.print(table)
    if len(left_out) > _REASONS_SHOWN_MAX:
        console.print(f"… and {len(left_out) - _REASONS_SHOWN_MAX} more; --json lists all")


def document_id_of(path: Path) -> str:
    """An id that the same path always gets: readable, and different from all other paths'."""
    place = os.fsencode(path.resolve())
    readable = re.sub(r"[^a-z0-9]+", "-", path.name.lower()).strip("-")[:45].strip("-") or "file"
    return f"{readable}-{hashlib.sha256(place).hexdigest()[:12]}"


def _sorted_out(paths: Sequence[Path]) -> tuple[list[Path], list[Outcome]]:
    """The files to send, each once, and those that need not be."""
    from engine.documents.detect import detect

    files: dict[Path, Path] = {}
    refused: list[Outcome] = []
    for path in (found for place in paths for found in _below(place)):
        try:
            with path.open("rb") as file:
                sample = file.read(_SAMPLE_BYTES)
            if not sample.strip():
                refused.append(Outcome(str(path), "skipped", reason="EMPTY", message="is empty"))
                continue
            detect(sample, path.name)
        except UnsupportedMediaType as error:
            kind = Outcome(
                str(path), "skipped", reason="UNSUPPORTED_MEDIA_TYPE", message=error.message
            )
            refused.append(kind)
            continue
        except OSError as error:
            refused.append(
                Outcome(str(path), "failed", reason="UNREADABLE", message=str(error.strerror))
            )
            continue
        except DocumentUnreadable:  # the sample may end within a character: the server decides
            pass
        files.setdefault(path.resolve(), path)
    return list(files.values()), refused


def _below(path: Path) -> Iterator[Path]:
    """The file itself, or every file below the folder by name; hidden ones are left out."""
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(folder, name)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
