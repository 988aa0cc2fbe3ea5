"""Files as they came, by their hash, in pieces of 1 MiB."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass

from engine.errors import DataLoss
from services.store.store import Tx

PIECE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of a file without reading it."""

    sha256: bytes
    size_bytes: int
    media_type: str


async def put_content(tx: Tx, content: Content, data: Iterable[bytes]) -> bool:
    """Store a file unless it is stored; whether it was new. Its row stays locked until the commit.

    The document that refers to it is written before, in the same transaction. `data` is read only
    where the file is new; pieces of any length. Raises DataLoss where it is not the file that
    `content` describes.
    """
    key = (tx.tenant, content.sha256)
    row = await tx.row(
        "INSERT INTO contents (tenant, sha256, size_bytes, media_type) VALUES (%s, %s, %s, %s) "
        "ON CONFLICT (tenant, sha256) DO UPDATE SET size_bytes = excluded.size_bytes "
        "RETURNING xmax = 0",
        (*key, content.size_bytes, content.media_type),
    )
    if row is None or not row[0]:
        return False
    digest = hashlib.sha256()
    size_bytes = 0
    for index, piece in enumerate(_pieces(data)):
        digest.update(piece)
        size_bytes += len(piece)
        await tx.run(
            "INSERT INTO content_chunks (tenant, sha256, chunk_index, data) "
            "VALUES (%s, %s, %s, %b)",
            (*key, index, piece),
        )
    if size_bytes != content.size_bytes or digest.digest() != content.sha256:
        raise DataLoss(
            f"a file of {content.size_bytes} bytes changed while it was stored; send it again",
            metadata={"size_bytes": content.size_bytes, "stored_bytes": size_bytes},
        )
    return True


async def get_content(tx: Tx, sha256: bytes) -> Content | None:
    """None where it is not stored."""
    return await tx.one(
        Content,
        "SELECT sha256, size_bytes, media_type FROM contents WHERE tenant = %s AND sha256 = %s",
        (tx.tenant, sha256),
    )


async def read_content(tx: Tx, sha256: bytes) -> AsyncIterator[bytes]:
    """The file in pieces of at most 1 MiB. Raises DataLoss at the end if its hash is another."""
    digest = hashlib.sha256()
    index = 0
    while True:
        row = await tx.row(
            "SELECT data FROM content_chunks "
            "WHERE tenant = %s AND sha256 = %s AND chunk_index = %s",
            (tx.tenant, sha256, index),
        )
        if row is None:
            break
        digest.update(row[0])
        index += 1
        yield row[0]
    if digest.digest() != sha256:
        raise DataLoss(
            f"the stored file {sha256.hex()} does not match its hash; upload it again",
            metadata={"sha256": sha256.hex()},
        )


def _pieces(data: Iterable[bytes]) -> Iterator[bytes]:
    waiting = bytearray()
    for part in data:
        waiting += part
        while len(waiting) >= PIECE_BYTES:
            yield bytes(waiting[:PIECE_BYTES])
            del waiting[:PIECE_BYTES]
    if waiting:
        yield bytes(waiting)
