"""Durable request ids: repeating a request returns the first answer, whichever node took it.

`recall` comes first in the transaction and holds back every other request with the same id until
the commit; `remember` stores the answer in the same transaction as what the request did.
"""

from __future__ import annotations

from engine.errors import RequestIdReused
from services.store.store import Tx


async def recall(tx: Tx, request_id: str, method: str, payload_sha256: bytes) -> bytes | None:
    """The first answer to this request, or None where it is new.

    Raises RequestIdReused where the id came with another method or payload.
    """
    async with tx.connection.pipeline():
        await tx.connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s || chr(10) || %s, 0))",
            (tx.tenant, request_id),
        )
        # A statement of its own: its view begins after the wait for the lock.
        cursor = await tx.connection.execute(
            "SELECT method, payload_sha256, response FROM requests "
            "WHERE tenant = %s AND request_id = %s",
            (tx.tenant, request_id),
            binary=True,
        )
        row = await cursor.fetchone()
    if row is None:
        return None
    if (row[0], row[1]) != (method, payload_sha256):
        raise RequestIdReused(
            f"request_id {request_id!r} was used for another {row[0]} request; take a new one",
            field="request_id",
            metadata={"request_id": request_id, "method": row[0]},
        )
    response: bytes = row[2]
    return response


async def remember(
    tx: Tx, request_id: str, method: str, payload_sha256: bytes, response: bytes
) -> None:
    """Store the answer. Call it before `apply_batch` where the answer is known, else after."""
    await tx.run(
        "INSERT INTO requests (tenant, request_id, method, payload_sha256, response) "
        "VALUES (%s, %s, %s, %b, %b)",
        (tx.tenant, request_id, method, payload_sha256, response),
    )
