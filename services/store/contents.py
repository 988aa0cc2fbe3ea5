"""Files of documents as rows: each says of a file, by its hash, in which object it lies.

The bytes are put into the object store before the row is written. An object that is there and named
by no row is swept when it is old; one that a row names is there:

- Its row is written under a lock that clean-up takes to condemn what nothing names, and only after
  it was taken off the list of the condemned and seen in the store.
- It is condemned in the transaction that removes its row (`sharing.release`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from services.store.cleanup import DOCUMENT_FILES, FILES_LOCK, pardon_objects
from services.store.store import Tx

Exists = Callable[[str], Awaitable[bool]]
"""Whether the object store has an object of that name."""


@dataclass(frozen=True, slots=True)
class Content:
    """What is known of a file without reading it."""

    sha256: bytes
    size_bytes: int
    media_type: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file lies: in the object of that name, or still in rows of this database."""

    object: bytes | None


class NotKept(Exception):
    """The object that a row is about to name is not in the store: put it, then try again."""


def object_name(tenant: str, sha256: bytes) -> str:
    """The object of a tenant's file. Tenants share none, so that each may have a key of its own."""
    return hashlib.sha256(b"ragmesh file\0" + tenant.encode() + b"\0" + sha256).hexdigest()


async def name_content(tx: Tx, content: Content, exists: Exists) -> None:
    """Write the row of a file that was put before, unless there is one. It stays locked until the
    commit.

    The document that refers to it is written before, in the same transaction. Raises NotKept.
    """
    await tx.rows("SELECT pg_advisory_xact_lock_shared(%s)", (FILES_LOCK,))
    name = object_name(tx.tenant, content.sha256)
    row = await tx.row(
        "INSERT INTO contents (tenant, sha256, size_bytes, media_type, object) "
        "VALUES (%s, %s, %s, %s, %s) "
        "ON CONFLICT (tenant, sha256) DO UPDATE SET size_bytes = excluded.size_bytes "
        "RETURNING object",
        (tx.tenant, content.sha256, content.size_bytes, content.media_type, bytes.fromhex(name)),
    )
    if row is not None and row[0] is not None:
        await _claim(tx, name, exists)


async def find_content(tx: Tx, sha256: bytes) -> Place | None:
    """None where there is no such file."""
    return await tx.one(
        Place,
        "SELECT object FROM contents WHERE tenant = %s AND sha256 = %s",
        (tx.tenant, sha256),
    )


async def to_move(tx: Tx, after: tuple[str, bytes], limit: int = 100) -> list[tuple[str, bytes]]:
    """Tenants and hashes of files that are still in rows, from `after` on. For `Store.system`."""
    rows = await tx.rows(
        "SELECT tenant, sha256 FROM contents WHERE object IS NULL AND (tenant, sha256) > (%s, %s) "
        "ORDER BY tenant, sha256 LIMIT %s",
        (*after, limit),
    )
    return [(row[0], row[1]) for row in rows]


async def piece_of(tx: Tx, sha256: bytes, index: int) -> bytes | None:
    """A piece of a file that is still in rows; None after the last one, or if it was moved."""
    row = await tx.row(
        "SELECT data FROM content_chunks WHERE tenant = %s AND sha256 = %s AND chunk_index = %s",
        (tx.tenant, sha256, index),
    )
    return None if row is None else bytes(row[0])


async def move_content(tx: Tx, sha256: bytes, exists: Exists) -> bool:
    """Let a file's row name the object that was put, and remove its pieces; False where it was
    deleted or moved meanwhile. Raises NotKept."""
    await tx.rows("SELECT pg_advisory_xact_lock_shared(%s)", (FILES_LOCK,))
    name = object_name(tx.tenant, sha256)
    moved = await tx.run(
        "UPDATE contents SET object = %s WHERE tenant = %s AND sha256 = %s AND object IS NULL",
        (bytes.fromhex(name), tx.tenant, sha256),
    )
    if not moved:
        return False
    await _claim(tx, name, exists)
    await tx.run(
        "DELETE FROM content_chunks WHERE tenant = %s AND sha256 = %s", (tx.tenant, sha256)
    )
    return True


async def _claim(tx: Tx, name: str, exists: Exists) -> None:
    await pardon_objects(tx, [bytes.fromhex(name)], DOCUMENT_FILES)
    if not await exists(name):
        raise NotKept(name)
