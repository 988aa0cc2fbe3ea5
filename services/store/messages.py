"""Messages of sessions: a tree that only grows. No statement here changes a message.

Pages are read in two steps: which messages, by their places alone, and then those, as many as fit.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from engine.errors import LimitReached, MessageNotFound
from engine.memory.tree import ROOT, Place, grow
from engine.types import JsonValue
from services.store.sessions import Session, take_indexes
from services.store.store import Tx

MESSAGES_MAX = 200_000
"""Messages of a session: they are deleted in one transaction, which has to end."""
PAGE_BYTES_MAX = 8 << 20
"""Texts and payloads of a page: half of what a message of the contract may have."""

_KEY = "m.tenant = %(tenant)s AND m.session_uid = %(uid)s"
_PLACE = "m.index, m.parent, m.jump, m.depth"

# A message by its index. The limit keeps it a look of its own: joined as a table, PostgreSQL reads
# the whole session for each step where its statistics are from before the session grew.
_LOOK = (
    f"SELECT {_PLACE}, m.size_bytes FROM messages m WHERE {_KEY} AND m.index = {{index}} LIMIT 1"
)

# From a message along its jumps: a logarithmic number of rows.
_JUMPS = f"""
WITH RECURSIVE chain (index, parent, jump, depth, size_bytes) AS (
    ({_LOOK.format(index="%(index)s")})
    UNION ALL
    SELECT n.* FROM chain c CROSS JOIN LATERAL ({_LOOK.format(index="c.jump")}) n WHERE c.jump > 0
)
SELECT index, parent, jump, depth FROM chain
"""

# The ancestor at depth `to_depth`, by jumps that do not pass it, and from there up by parents to
# below `after_depth`.
_NEXT = f"""CASE WHEN ({_LOOK.format(index="t.jump").replace(_PLACE + ", m.size_bytes", "m.depth")})
    >= %(to_depth)s THEN t.jump ELSE t.parent END"""
_BRANCH = f"""
WITH RECURSIVE toward (index, parent, jump, depth, size_bytes) AS (
    ({_LOOK.format(index="%(leaf)s")})
    UNION ALL
    SELECT n.* FROM (
        SELECT {_NEXT} AS index FROM toward t WHERE t.depth > %(to_depth)s
    ) s CROSS JOIN LATERAL ({_LOOK.format(index="s.index")}) n
), up (index, parent, jump, depth, size_bytes) AS (
    SELECT * FROM toward WHERE depth <= %(to_depth)s
    UNION ALL
    SELECT n.* FROM up u CROSS JOIN LATERAL ({_LOOK.format(index="u.parent")}) n
    WHERE u.depth > %(after_depth)s + 1
)
SELECT index, size_bytes FROM up ORDER BY depth
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A row. `role` is the contract's number; `size_bytes` is of text and payload together."""

    index: int
    parent: int
    depth: int
    role: int
    size_bytes: int
    text: str
    payload: Mapping[str, JsonValue]
    create_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to append."""

    role: int
    text: str
    payload: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Page:
    """Messages in the order that was asked for, and whether there are more behind them."""

    messages: Sequence[Message]
    more: bool


async def append_messages(
    tx: Tx, session_id: str, given: Sequence[NewMessage], parent_index: int | None
) -> tuple[Session, list[Message]]:
    """Append messages, each after the one before, the first after `parent_index` (None for the
    last message of the session, 0 for none).

    Writers to one session wait for each other here, so that indexes are the order of commits.
    Raises SessionNotFound, MessageNotFound and LimitReached.
    """
    session = await take_indexes(tx, session_id, len(given))
    if session.messages > MESSAGES_MAX:
        raise LimitReached(
            f"session {session_id!r} has {session.messages - len(given):,} messages and takes at "
            f"most {MESSAGES_MAX:,}; go on in another session",
            metadata={"session": session_id, "messages_max": MESSAGES_MAX},
        )
    last = session.messages - len(given)
    parent_index = last if parent_index is None else parent_index
    if parent_index > last:
        raise message_not_found(replace(session, messages=last), parent_index, "parent_index")
    chain = await _jumps(tx, session.uid, parent_index)
    parent = chain.get(parent_index, ROOT)
    places = grow(parent, chain, last + 1, len(given))
    payloads = [json.dumps(m.payload, ensure_ascii=False, allow_nan=False) for m in given]
    appended = [
        Message(
            index=place.index,
            parent=place.parent,
            depth=place.depth,
            role=message.role,
            size_bytes=len(message.text.encode()) + len(payload.encode()),
            text=message.text,
            payload=message.payload,
            # Not each row's own clock: times never go back in a session, though clocks may.
            create_time=session.update_time,
        )
        for place, message, payload in zip(places, given, payloads, strict=True)
    ]
    await tx.run(
        "INSERT INTO messages (tenant, session_uid, create_time, index, parent, jump, depth, "
        "size_bytes, role, text, payload) SELECT %(tenant)s, %(uid)s, %(time)s, index, parent, "
        "jump, depth, size_bytes, role, text, payload::json FROM unnest(%(indexes)s::integer[], "
        "%(parents)s::integer[], %(jumps)s::integer[], %(depths)s::integer[], "
        "%(sizes)s::integer[], %(roles)s::smallint[], %(texts)s::text[], %(payloads)s::text[]) "
        "AS given (index, parent, jump, depth, size_bytes, role, text, payload)",
        {
            "tenant": tx.tenant,
            "uid": session.uid,
            "indexes": [place.index for place in places],
            "parents": [place.parent for place in places],
            "jumps": [place.jump for place in places],
            "depths": [place.depth for place in places],
            "sizes": [message.size_bytes for message in appended],
            "time": session.update_time,
            "roles": [m.role for m in given],
            "texts": [m.text for m in given],
            "payloads": payloads,
        },
    )
    return session, appended


async def get_place(tx: Tx, session: Session, index: int, field: str) -> Place:
    """Where a message stands. Raises MessageNotFound, which names `field` of the request."""
    row = await tx.row(
        f"SELECT {_PLACE} FROM messages m WHERE {_KEY} AND m.index = %(index)s",
        {"tenant": tx.tenant, "uid": session.uid, "index": index},
    )
    if row is None:
        raise message_not_found(session, index, field)
    return Place(*row)


async def list_all(
    tx: Tx, session: Session, *, after: int, limit: int, newest_first: bool = False
) -> Page:
    """Messages by index from beyond `after` on, in either direction; from the last one back where
    `after` is 0."""
    bound = ("m.index < %(after)s" if after else "true") if newest_first else "m.index > %(after)s"
    rows = await tx.rows(
        f"SELECT m.index, m.size_bytes FROM messages m WHERE {_KEY} AND {bound} "
        f"ORDER BY m.index {'DESC' if newest_first else 'ASC'} LIMIT %(limit)s + 1",
        {"tenant": tx.tenant, "uid": session.uid, "after": after, "limit": limit},
    )
    return await _read(tx, session.uid, rows, limit)


async def list_children(
    tx: Tx, session: Session, parent: int, *, after: int, limit: int, newest_first: bool = False
) -> Page:
    """The messages that follow `parent` directly, as `list_all`."""
    bound = ("m.index < %(after)s" if after else "true") if newest_first else "m.index > %(after)s"
    rows = await tx.rows(
        f"SELECT m.index, m.size_bytes FROM messages m WHERE {_KEY} AND m.parent = %(parent)s "
        f"AND m.parent >= 0 AND {bound} "
        f"ORDER BY m.index {'DESC' if newest_first else 'ASC'} LIMIT %(limit)s + 1",
        {
            "tenant": tx.tenant,
            "uid": session.uid,
            "parent": parent,
            "after": after,
            "limit": limit,
        },
    )
    return await _read(tx, session.uid, rows, limit)


async def list_branch(
    tx: Tx,
    session: Session,
    leaf: Place,
    *,
    after: int = 0,
    limit: int,
    newest_first: bool = False,
    bytes_max: int = PAGE_BYTES_MAX,
) -> Page:
    """The branch that leads to `leaf`, from beyond the depth `after` on, in either direction; from
    the leaf back where `after` is 0. Reads a page's rows and a logarithm of the depth."""
    if newest_first:
        to_depth = min(leaf.depth, after - 1 if after else leaf.depth)
        after_depth = max(0, to_depth - limit - 1)
    else:
        after_depth, to_depth = after, min(leaf.depth, after + limit + 1)
    if to_depth <= after_depth:
        return Page((), False)
    rows = await tx.rows(
        _BRANCH,
        {
            "tenant": tx.tenant,
            "uid": session.uid,
            "leaf": leaf.index,
            "to_depth": to_depth,
            "after_depth": after_depth,
        },
    )
    return await _read(tx, session.uid, rows[::-1] if newest_first else rows, limit, bytes_max)


def message_not_found(session: Session, index: int, field: str) -> MessageNotFound:
    """The error for an index that the session does not have."""
    return MessageNotFound(
        f"session {session.id!r} has no message {index:,}; it has {session.messages:,} messages",
        field=field,
        metadata={"session": session.id, "message_index": index, "messages": session.messages},
    )


async def _jumps(tx: Tx, uid: uuid.UUID, index: int) -> dict[int, Place]:
    rows = await tx.rows(_JUMPS, {"tenant": tx.tenant, "uid": uid, "index": index})
    return {row[0]: Place(*row) for row in rows}


async def _read(
    tx: Tx,
    uid: uuid.UUID,
    rows: Sequence[tuple[int, int]],
    limit: int,
    bytes_max: int = PAGE_BYTES_MAX,
) -> Page:
    """The messages of (index, size in bytes), in that order, as many as a page may have."""
    wanted: list[int] = []
    size_bytes = 0
    for index, size in rows[:limit]:
        size_bytes += size
        if wanted and size_bytes > bytes_max:
            break
        wanted.append(index)
    found = await tx.all(
        Message,
        "SELECT m.index, m.parent, m.depth, m.role, m.size_bytes, m.text, m.payload, "
        "m.create_time "
        f"FROM messages m WHERE {_KEY} AND m.index = ANY(%(indexes)s)",
        {"tenant": tx.tenant, "uid": uid, "indexes": wanted},
    )
    by_index = {message.index: message for message in found}
    return Page([by_index[index] for index in wanted], len(wanted) < len(rows))
