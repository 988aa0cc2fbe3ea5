"""One file to the mesh: whether it has to be sent, and how."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from services.commands.ingest_files import (
    File,
    display_name_of,
    document_id_of,
    refusal,
    sha256_of,
    shown,
    uri_of,
)
from services.commands.ingest_shown import UNCHANGED
from services.commands.ingestion import Item, Outcome

if TYPE_CHECKING:
    from ragmesh import AsyncClient, IngestJob

READS_MAX = 3
"""How often a file is sent that changes while it is read."""


def changed_item(collection: str, file: File, *, replace: bool) -> Item:
    """Sends a file that is not there yet; with `replace`, also one that has changed since."""

    async def send(client: AsyncClient) -> IngestJob | Outcome:
        from ragmesh import DocumentNotFound

        refused = await asyncio.to_thread(refusal, file)
        if refused is not None:
            return refused
        try:
            there = await client.get_document(document_id_of(file.place), collection=collection)
        except DocumentNotFound:
            return await _upload(client, collection, file, replace=False)
        same = there.content_sha256 == (await asyncio.to_thread(sha256_of, file.path)).hex()
        if there.state == "failed":
            return await (_again if same else _replaced)(client, collection, file)
        if same:
            return _skipped(file, UNCHANGED, "is there already, unchanged")
        if not replace:
            return _skipped(
                file, "DOCUMENT_EXISTS", "is there already, and has changed since: --replace"
            )
        return await _replaced(client, collection, file)

    return Item(shown(file.path), send, file.size_bytes)


def new_item(collection: str, file: File) -> Item:
    """Sends a file that is not there."""
    return Item(
        shown(file.path),
        lambda client: _upload(client, collection, file, replace=False),
        file.size_bytes,
    )


def replaced_item(collection: str, file: File) -> Item:
    """Sends a file as the new version of its document."""
    return Item(
        shown(file.path), lambda client: _replaced(client, collection, file), file.size_bytes
    )


def again_item(collection: str, file: File) -> Item:
    """Ingests a file that is stored once more, without sending it."""
    return Item(shown(file.path), lambda client: _again(client, collection, file), file.size_bytes)


async def _replaced(client: AsyncClient, collection: str, file: File) -> IngestJob | Outcome:
    return await _upload(client, collection, file, replace=True)


async def _again(client: AsyncClient, collection: str, file: File) -> IngestJob | Outcome:
    document = document_id_of(file.place)
    return (await client.reindex_document(document, collection=collection)).ingest_job


async def _upload(
    client: AsyncClient, collection: str, file: File, *, replace: bool
) -> IngestJob | Outcome:
    for _ in range(READS_MAX):
        before = _mark(file.path)
        stored = await client.upload_document(
            collection,
            file.path,
            document_id=document_id_of(file.place),
            display_name=display_name_of(file.place),
            source_uri=uri_of(file.place),
            replace_existing=replace,
        )
        if _mark(file.path) == before:
            return stored.ingest_job
        replace = True
    return Outcome(
        shown(file.path),
        "failed",
        stored.document.name,
        reason="CHANGED",
        message=f"changed each of the {READS_MAX} times that it was read: what is ingested may mix "
        "two versions; run this again when nobody writes to it",
        size_bytes=file.size_bytes,
    )


def _mark(path: str) -> tuple[int, int, int]:
    """What is another when a file was written. Raises OSError."""
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


def _skipped(file: File, reason: str, message: str) -> Outcome:
    return Outcome(
        shown(file.path), "skipped", reason=reason, message=message, size_bytes=file.size_bytes
    )
