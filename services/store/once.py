"""A write that is done once for each request id, in one transaction with the record of it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from google.protobuf.message import Message

from services.store.requests import recall, remember
from services.store.store import Store, Tx

Response = TypeVar("Response", bound=Message)


async def answered(
    store: Store,
    tenant: str,
    request_id: str,
    request: Message,
    kind: type[Response],
    payload: bytes,
    *,
    timeout_s: float | None,
) -> Response | None:
    """What `once` answered before to the same; None where it would run. For requests that take long
    to send. Raises RequestIdReused."""
    if not request_id:
        return None
    method, digest = _method(request), hashlib.sha256(payload).digest()
    async with store.transaction(tenant, timeout_s=timeout_s) as tx:
        before = await recall(tx, request_id, method, digest)
    return None if before is None else kind.FromString(before)


async def once(
    store: Store,
    tenant: str,
    request_id: str,
    request: Message,
    kind: type[Response],
    work: Callable[[Tx], Awaitable[Response]],
    *,
    timeout_s: float | None,
    payload: bytes | None = None,
) -> Response:
    """Runs `work` in a transaction, or returns what it answered before.

    Without a `request_id` it runs each time. `payload` replaces the request's bytes as what must
    be the same on repetition. Raises RequestIdReused, and whatever `work` raises.
    """
    if not request_id:
        return await store.run(tenant, work, timeout_s=timeout_s)
    method = _method(request)
    data = request.SerializeToString(deterministic=True) if payload is None else payload
    digest = hashlib.sha256(data).digest()

    async def recorded(tx: Tx) -> Response:
        before = await recall(tx, request_id, method, digest)
        if before is not None:
            return kind.FromString(before)
        response = await work(tx)
        await remember(tx, request_id, method, digest, response.SerializeToString())
        return response

    return await store.run(tenant, recorded, timeout_s=timeout_s)


def _method(request: Message) -> str:
    return type(request).__name__.removesuffix("Request")
