"""`ragmesh documents`: what is in a collection, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from services.commands import document_jobs, options
from services.commands.document_names import (
    Id,
    Ids,
    InCollection,
    document_name,
    one_of,
    passage_index,
    short_name,
)
from services.commands.document_shown import (
    print_document,
    print_documents,
    print_failures,
    print_in_context,
    print_passages,
)
from services.commands.output import print_json, stderr, stdout
from services.commands.snapshots import open_client

if TYPE_CHECKING:
    from ragmesh import Client, Document, IngestJob

NEIGHBORS_MAX = 10

State = Literal["ingesting", "active", "failed"]

app = typer.Typer(
    help="List, show, open, delete, reindex, retry and cancel documents of a collection.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command("reindex")(document_jobs.reindex)
app.command("retry")(document_jobs.retry)
app.command("cancel")(document_jobs.cancel)
_Limit = Annotated[int, typer.Option("--limit", "-n", min=1, max=1_000, help="How many at most.")]


@app.command("list")
def show_all(
    collection: options.Collection,
    state: Annotated[
        State | None, typer.Option(help="Only those in this state.", show_default=False)
    ] = None,
    limit: _Limit = 50,
    page: Annotated[str, typer.Option(help="Go on from here: what the list before said.")] = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List a collection's documents by id."""
    with open_client(address, data_dir) as client:
        listing = client.list_documents(collection, state=state or "", page_size=limit)
        found = next(listing.pages(page))
    if json:
        print_json(
            {
                "documents": [asdict(one) for one in found.items],
                "next_page": found.next_page_token,
            }
        )
        return
    if not found.items:
        of_state = f" is {state}" if state else ""
        stdout().print(f"No document of {collection}{of_state}: ragmesh ingest PATH brings some.")
        return
    print_documents(found.items)
    if found.next_page_token:
        stdout().print(f"There are more: --page {found.next_page_token}", soft_wrap=True)


@app.command("show")
def show(
    document: Id,
    collection: InCollection = "",
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Show a document, its latest job with its error, and how its text begins."""
    with open_client(address, data_dir) as client:
        found = client.get_document(document_name(document, collection))
        job = client.get_ingest_job(found.ingest_job)
        first = next(client.list_passages(found.name, page_size=3).pages()).items
    if json:
        print_json({**asdict(found), "job": _said(job)})
    else:
        print_document(found, job, first)


@app.command("passages")
def passages(
    document: Id,
    collection: InCollection = "",
    limit: _Limit = 50,
    first: Annotated[int, typer.Option("--from", min=0, help="From this passage on.")] = 0,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """List a document's passages in the order of its text."""
    name = document_name(document, collection)
    with open_client(address, data_dir) as client:
        listing = client.list_passages(name, from_index=first, page_size=limit)
        found = next(listing.pages())
    if json:
        print_json({"passages": [asdict(one) for one in found.items]})
        return
    print_passages(found.items)
    if found.next_page_token:
        stdout().print(f"There are more: --from {first + len(found.items)}")


@app.command("open")
def open_passage(
    passage: Annotated[
        str, typer.Argument(help="`papers/ID#3`: passage 3 as `search` and `ask` number it.")
    ],
    collection: InCollection = "",
    around: Annotated[
        int, typer.Option("--around", "-a", min=0, max=NEIGHBORS_MAX, help="Passages beside it.")
    ] = 1,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Open a passage in its context: the text around it, its headings, page and file."""
    document, index = passage_index(passage)
    name, index = document_name(document, collection), index or 0
    first = max(0, index - around)
    with open_client(address, data_dir) as client:
        found = client.get_document(name)
        listing = client.list_passages(name, from_index=first, page_size=index - first + around + 1)
        some = next(listing.pages()).items
    wanted = [one for one in some if one.passage_index == index]
    if not wanted:
        from engine.errors import InvalidField

        raise InvalidField(
            f"{short_name(name)} has {found.passages} passages, so none has number {index}"
            + ("" if found.state == "active" else f"; it is {found.state}"),
            field="passage",
            metadata={"passage": index, "passages": found.passages},
        )
    if json:
        print_json({"document": asdict(found), "passages": [asdict(one) for one in some]})
    else:
        print_in_context(found, wanted[0], some)


@app.command("failures")
def failures(
    collection: options.Collection,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Say which documents could not be ingested, or not anew, and why."""
    with open_client(address, data_dir) as client:
        found = list(_failures(client, collection))
    if json:
        print_json(
            {"failures": [{**asdict(document), "job": _said(job)} for document, job in found]}
        )
    elif found:
        print_failures(found)
        stdout().print(f"Once more: ragmesh documents retry --collection {collection} --all")
    else:
        stdout().print(f"Nothing of {collection} has failed.")


@app.command("delete")
def delete(
    documents: Ids = None,
    collection: InCollection = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    address: options.Address = "",
    data_dir: options.DataDir = None,
    json: options.Json = False,
) -> None:
    """Delete documents in any state, with all that was made of them."""
    one_of(documents, False, collection)
    names = [document_name(one, collection) for one in documents or []]
    with open_client(address, data_dir) as client:
        if not yes:
            for name in names:
                found = client.get_document(name)
                stderr().print(f"{short_name(name)} ({found.display_name})", markup=False)
            typer.confirm("Delete? This cannot be undone.", abort=True, err=True)
        for name in names:
            client.delete_document(name)
            if not json:
                stdout().print(f"deleted [bold]{short_name(name)}[/]")
    if json:
        print_json({"deleted": names})


def _failures(client: Client, collection: str) -> Iterator[tuple[Document, IngestJob]]:
    """Documents whose latest job failed or was cancelled, also those that are searchable as they
    were before it."""
    from ragmesh import DocumentNotFound

    states: tuple[Literal["failed", "cancelled"], ...] = ("failed", "cancelled")
    for state in states:
        for job in client.list_ingest_jobs(collection=collection, state=state, page_size=1_000):
            try:
                document = client.get_document(job.document)
            except DocumentNotFound:
                continue
            if document.ingest_job == job.name:
                yield document, job


def _said(job: IngestJob) -> dict[str, object]:
    """A job for programs."""
    error = job.error
    said = {name: getattr(job, name) for name in job.__slots__ if name != "error"}
    return {
        **said,
        "error": None if error is None else {"reason": error.reason, "message": error.message},
    }
