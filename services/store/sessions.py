"""Sessions: rows that hold a conversation's messages, and the time at which they end.

A session whose time is over is not there for anybody, whether or not it was removed yet. The clock
is PostgreSQL's alone.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from engine.errors import SessionExists, SessionNotFound
from engine.types import JsonValue
from services.store.store import Tx

PURGED_MESSAGES_MAX = 50_000
"""After so many messages, clean-up leaves other sessions for its next piece."""

_COLUMNS = (
    "tenant, id, uid, subject, display_name, payload, ttl_s, messages, create_time, update_time, "
    "expire_time"
)
_LIVES = "(expire_time IS NULL OR expire_time > clock_timestamp())"
_END = "CASE WHEN ttl_s > 0 THEN clock_timestamp() + make_interval(secs => ttl_s) END"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A row. `messages` is how many there are, and the index of the last one; `ttl_s` is 0, and
    `expire_time` None, for a session that does not end by itself."""

    tenant: str
    id: str
    uid: uuid.UUID
    subject: str
    display_name: str
    payload: Mapping[str, JsonValue]
    ttl_s: int
    messages: int
    create_time: datetime
    update_time: datetime
    expire_time: datetime | None


async def create_session(
    tx: Tx,
    session_id: str,
    *,
    subject: str = "",
    display_name: str = "",
    payload: Mapping[str, JsonValue],
    ttl_s: int = 0,
) -> Session:
    """An empty session. Raises SessionExists."""
    await tx.run(
        f"DELETE FROM sessions WHERE tenant = %s AND id = %s AND NOT {_LIVES}",
        (tx.tenant, session_id),
    )
    session = await tx.one(
        Session,
        "INSERT INTO sessions "
        "(tenant, id, uid, subject, display_name, payload, ttl_s, expire_time) "
        "SELECT %(tenant)s, %(id)s, %(uid)s, %(subject)s, %(display_name)s, %(payload)s::json, "
        f"ttl_s, {_END} FROM (SELECT %(ttl_s)s::integer AS ttl_s) AS given "
        f"ON CONFLICT DO NOTHING RETURNING {_COLUMNS}",
        {
            "tenant": tx.tenant,
            "id": session_id,
            "uid": uuid.uuid4(),
            "subject": subject,
            "display_name": display_name,
            "payload": json.dumps(payload, ensure_ascii=False, allow_nan=False),
            "ttl_s": ttl_s,
        },
    )
    if session is None:
        raise SessionExists(
            f"session {session_id!r} exists already; append to it, or choose another id",
            field="session_id",
            metadata={"session": session_id},
        )
    return session


async def get_session(tx: Tx, session_id: str) -> Session:
    """Raises SessionNotFound."""
    session = await tx.one(
        Session,
        f"SELECT {_COLUMNS} FROM sessions WHERE tenant = %s AND id = %s AND {_LIVES}",
        (tx.tenant, session_id),
    )
    if session is None:
        raise not_found(session_id)
    return session


async def list_sessions(
    tx: Tx,
    *,
    subject: str = "",
    before: tuple[datetime, str] | None = None,
    limit: int = 1000,
) -> list[Session]:
    """The newest first, of one subject if given; the next page is `before` the last one's
    `create_time` and `id`."""
    where = ["tenant = %(tenant)s", _LIVES]
    if subject:
        where.append("subject = %(subject)s")
    if before is not None:
        where.append("(create_time, id) < (%(time)s, %(id)s)")
    time, session_id = before or (None, None)
    return await tx.all(
        Session,
        f"SELECT {_COLUMNS} FROM sessions WHERE {' AND '.join(where)} "
        "ORDER BY create_time DESC, id DESC LIMIT %(limit)s",
        {
            "tenant": tx.tenant,
            "subject": subject,
            "time": time,
            "id": session_id,
            "limit": limit,
        },
    )


async def delete_session(tx: Tx, session_id: str) -> Session:
    """Remove a session with its messages and summaries; what it was. Raises SessionNotFound."""
    session = await tx.one(
        Session,
        f"DELETE FROM sessions WHERE tenant = %s AND id = %s AND {_LIVES} RETURNING {_COLUMNS}",
        (tx.tenant, session_id),
    )
    if session is None:
        raise not_found(session_id)
    return session


async def take_indexes(tx: Tx, session_id: str, count: int) -> Session:
    """The session with `count` messages more, which the caller appends in this transaction: nobody
    else appends to it until then. Its end moves away, never nearer. Raises SessionNotFound."""
    session = await tx.one(
        Session,
        "UPDATE sessions SET messages = messages + %s, "
        "update_time = greatest(update_time, clock_timestamp()), "
        f"expire_time = greatest(expire_time, {_END}) "
        f"WHERE tenant = %s AND id = %s AND {_LIVES} RETURNING {_COLUMNS}",
        (count, tx.tenant, session_id),
    )
    if session is None:
        raise not_found(session_id)
    return session


async def purge_sessions(
    tx: Tx, *, rows_max: int = 500, messages_max: int = PURGED_MESSAGES_MAX
) -> int:
    """Remove sessions whose time is over, with their messages: at most `rows_max`, and no more
    after `messages_max` messages; for clean-up."""
    return await tx.run(
        "DELETE FROM sessions WHERE (tenant, id) IN ("
        "  SELECT tenant, id FROM ("
        "    SELECT tenant, id, messages, sum(messages) OVER (ORDER BY expire_time, tenant, id) AS "
        "    upto FROM (SELECT tenant, id, messages, expire_time FROM sessions "
        "      WHERE expire_time < clock_timestamp() ORDER BY expire_time LIMIT %s "
        "      FOR UPDATE SKIP LOCKED) AS over) AS counted "
        "  WHERE upto - messages <= %s)",
        (rows_max, messages_max),
    )


def not_found(session_id: str) -> SessionNotFound:
    """The error for a session that is not there, or not any more."""
    return SessionNotFound(
        f"session {session_id!r} does not exist, or its time is over",
        metadata={"session": session_id},
    )
