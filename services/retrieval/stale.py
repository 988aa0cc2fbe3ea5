"""Calls that meet a collection which another node has deleted and made anew, or whose migration it
has flipped.

A node remembers collections by name, so that a search does not need PostgreSQL, and hears of
changes at its next look at the log. Until then it may work on the one that is gone: that fails,
and is done again with the one that is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Protocol, TypeVar

from google.protobuf.message import Message

from engine.errors import CollectionNotFound, FailedPrecondition, Unavailable
from services.retrieval.index.indexes import Indexes
from services.rpc import names
from services.rpc.call import Call

TRIES_MAX = 3
"""Of one call. Whatever is exchanged more often while it lasts is exchanged by a program."""


class HasIndexes(Protocol):
    """A servicer with the indexes of its node."""

    _indexes: Indexes


Servicer = TypeVar("Servicer", bound=HasIndexes)
Request = TypeVar("Request")
Response = TypeVar("Response", bound=Message)
Handler = Callable[[Servicer, Request, Call], Awaitable[Response]]


def renewed(
    field: str,
) -> Callable[[Handler[Servicer, Request, Response]], Handler[Servicer, Request, Response]]:
    """Handles a call again if it failed for a collection that is not the one of that name any
    more. `field` of the request names it. Nothing of the first try is left: it failed before its
    transaction was committed, or committed to the collection that is gone."""

    def decorate(
        handler: Handler[Servicer, Request, Response],
    ) -> Handler[Servicer, Request, Response]:
        @wraps(handler)
        async def handle(self: Servicer, request: Request, call: Call) -> Response:
            collection_id = names.collection_id(getattr(request, field), field)
            for _ in range(TRIES_MAX - 1):
                known = self._indexes.remembered(call.tenant, collection_id)
                try:
                    return await handler(self, request, call)
                except (CollectionNotFound, FailedPrecondition) as error:
                    # Without one, it was looked up by the handler, and may have changed since.
                    known = known or self._indexes.remembered(call.tenant, collection_id)
                    if known is None:
                        raise
                    try:
                        another = await self._indexes.is_another(known, call)
                    except Unavailable:
                        raise error from None
                    if not another:
                        raise
            return await handler(self, request, call)

        return handle

    return decorate
