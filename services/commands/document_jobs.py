"""`ragmesh documents reindex|retry|cancel`: ingestions asked for anew, once more, or ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from services.commands import options
from services.commands.connect import find_address
from services.commands.document_names import (
    Ids,
    InCollection,
    document_name,
    one_of,
    short_name,
)
from services.commands.ingest_shown import Lines, Picture, Tally, print_left_out, speed
from services.commands.ingestion import Ingestion, Item
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import AsyncClient, Client, IngestJob

_All = Annotated[bool, typer.Option("--all", help="All that it can be done to.")]
PAGE_SIZE = 1_000


def reindex(
    documents: Ids = None,
    collection: InCollection = "",
    every: _All = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Ingest stored files anew, as the collection's settings and the parsers are now.

    Searches find what they found until each has its new passages, in one step. With --all, the
    whole collection.
    """
    one_of(documents, every, collection)

    def item(name: str) -> Item:
        async def send(client: AsyncClient) -> IngestJob:
            return (await client.reindex_document(name)).ingest_job

        return Item(short_name(name), send)

    with open_client(address, data_dir) as client:
        if every:
            names = [one.name for one in client.list_documents(collection, page_size=PAGE_SIZE)]
        else:
            names = [document_name(one, collection) for one in documents or []]
    _waited("ingested anew", [item(name) for name in names], address, data_dir, json)


def retry(
    documents: Ids = None,
    collection: InCollection = "",
    every: _All = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Try documents again whose ingestion failed or was cancelled; --all of a collection."""
    one_of(documents, every, collection)

    def item(name: str, job: str) -> Item:
        async def send(client: AsyncClient) -> IngestJob:
            return await client.retry_ingest_job(job)

        return Item(short_name(name), send)

    with open_client(address, data_dir) as client:
        if every:
            listing = client.list_documents(collection, state="failed", page_size=PAGE_SIZE)
            items = [item(one.name, one.ingest_job) for one in listing]
        else:
            names = [document_name(one, collection) for one in documents or []]
            items = [item(name, client.get_document(name).ingest_job) for name in names]
    _waited("ingested", items, address, data_dir, json)


def cancel(
    documents: Ids = None,
    collection: InCollection = "",
    every: _All = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """End ingestions that wait or run; --all of a collection.

    What was searchable stays as it was; a document that was not is kept, and can be tried again.
    """
    one_of(documents, every, collection)
    with open_client(address, data_dir) as client:
        if every:
            found = list(_unfinished(client, collection))
        else:
            names = [document_name(one, collection) for one in documents or []]
            found = [client.get_document(name).ingest_job for name in names]
        ended = [job for name in found if (job := _cancelled(client, name, strict=not every))]
    if json:
        print_json({"cancelled": [{"job": job.name, "document": job.document} for job in ended]})
        return
    for job in ended:
        stdout().print(f"cancelled [bold]{short_name(job.document)}[/]")
    if not ended:
        stdout().print("Nothing waits or runs.")


def _unfinished(client: Client, collection: str) -> Iterator[str]:
    for job in client.list_ingest_jobs(collection=collection, state="queued", page_size=PAGE_SIZE):
        yield job.name
    for job in client.list_ingest_jobs(collection=collection, state="running", page_size=PAGE_SIZE):
        yield job.name


def _cancelled(client: Client, name: str, *, strict: bool) -> IngestJob | None:
    """The job that was cancelled; None where it ended first and that is all the same."""
    from ragmesh import IngestJobFinished

    try:
        return client.cancel_ingest_job(name)
    except IngestJobFinished:
        if strict:
            raise
        return None


def _waited(
    done: str, items: list[Item], address: str, data_dir: options.DataDir, as_json: bool
) -> None:
    """Send all of it and wait; exits with 1 if something failed."""
    tally: Tally = (Lines if as_json else Picture)(len(items))
    try:
        asyncio.run(_run(tally, items, find_address(address, data_dir)))
    except KeyboardInterrupt:
        stderr().print("interrupted: what was asked for goes on all the same")
        raise
    finally:
        tally.close()
    if as_json:
        counts = {name: tally.counts[name] for name in ("ingested", "failed")}
        seconds = round(tally.seconds, 3)
        print_json({"event": "done", **counts, "passages": tally.passages, "seconds": seconds})
    else:
        console = stdout()
        if tally.outcomes:
            print_left_out(console, tally.outcomes, tally.counts["failed"])
        console.print(
            f"[bold]{tally.counts['ingested']:,}[/] {done} ({tally.passages:,} passages), "
            f"{tally.counts['failed']:,} failed in {tally.seconds:.1f} s"
        )
        console.print(f"[dim]{speed(tally.pace)}[/]")
    if tally.counts["failed"]:
        raise typer.Exit(1)


async def _run(tally: Tally, items: list[Item], address: str) -> None:
    from ragmesh import AsyncClient

    async with AsyncClient(address, lane="bulk") as client:
        collections = {item.label.partition("/")[0] for item in items}
        collection = collections.pop() if len(collections) == 1 else ""
        await Ingestion(client, tally, collection=collection).run(items)
