"""What the tests of documents' files act with: files that come in, and those of before objects."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.documents.files import Files
from services.objects.directory import DirectoryStore
from services.store.collections import Collection
from services.store.contents import Content
from services.store.documents import Document, NewDocument, create_document
from services.store.store import Store, Tx

PIECE_BYTES = 1 << 20


def content_of(data: bytes) -> Content:
    return Content(hashlib.sha256(data).digest(), len(data), "text/plain")


async def store_document(
    store: Store, files: Files, collection: Collection, name: str, data: bytes
) -> Document:
    """What the service does with an upload."""
    content = content_of(data)

    async def write(tx: Tx) -> Document:
        new = NewDocument(id=name)
        document, _ = await create_document(
            tx, collection, new, content, job_id=f"{collection.id}-{name}", exists=files.exists
        )
        return document

    async with files.incoming() as file:
        for start in range(0, len(data), 300_000):
            await file.take(data[start : start + 300_000])
        await file.whole()
        assert (file.sha256, file.size_bytes) == (content.sha256, content.size_bytes)
        return await files.kept(
            collection.tenant, content, file.path, lambda: store.run(collection.tenant, write)
        )


async def store_as_before(store: Store, collection: Collection, name: str, data: bytes) -> None:
    """What the version before objects left: the file in pieces, in rows."""

    async def there(name: str) -> bool:
        return True

    content = content_of(data)
    async with store.transaction(collection.tenant) as tx:
        new = NewDocument(id=name)
        await create_document(
            tx, collection, new, content, job_id=f"{collection.id}-{name}", exists=there
        )
        key = (tx.tenant, content.sha256)
        await tx.run("UPDATE contents SET object = NULL WHERE tenant = %s AND sha256 = %s", key)
        for index, start in enumerate(range(0, len(data), PIECE_BYTES)):
            await tx.run(
                "INSERT INTO content_chunks (tenant, sha256, chunk_index, data) "
                "VALUES (%s, %s, %s, %b) ON CONFLICT DO NOTHING",
                (*key, index, data[start : start + PIECE_BYTES]),
            )


async def read(files: Files, tenant: str, data: bytes) -> bytes:
    """What comes back of a file that was stored."""
    return b"".join([piece async for piece in files.read(tenant, content_of(data).sha256)])


async def objects_of(objects: DirectoryStore) -> set[str]:
    return {found.name async for found in objects.names()}


def left(root: Path) -> list[str]:
    """Every file in the object store's directory, whole or not."""
    return sorted(path.name for path in root.iterdir()) if root.exists() else []
