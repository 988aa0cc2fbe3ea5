"""Answers and the logs of their events.

What is true:
- Only the owner of a running answer appends to it, and only while it is running: an append that
  comes after a cancel, or after its lease ran out, writes nothing.
- Events are numbered from 1 by ones, and the row's `last_event_id` is the last of them.
- The last event of a log comes with the state that it leads to, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.errors import AnswerNotFound
from services.store.store import Tx

KEPT_S = 24 * 3600.0
"""How long an answer is kept after it was asked for."""
PAGE_EVENTS = 256
"""Events read from a log at once."""

Key = tuple[str, str]
"""Tenant and id of an answer."""


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """A row. `request` and `answer` are messages; `answer` is None until it is finished, and where
    it was not asked for."""

    tenant: str
    id: str
    state: str
    last_event_id: int
    create_time: datetime
    finish_time: datetime | None
    request: bytes
    answer: bytes | None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event of a log; `event` is its message without the number."""

    tenant: str
    answer_id: str
    event_id: int
    event: bytes


@dataclass(frozen=True, slots=True)
class Appended:
    """What is to be written to one log: events from `first_event_id` on and, with the last one,
    the state that it leads to (empty while it goes on) and the answer."""

    tenant: str
    id: str
    first_event_id: int
    events: Sequence[bytes]
    state: str = ""
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a log stands: its state, and its last event."""

    tenant: str
    id: str
    state: str
    last_event_id: int


_COLUMNS = "tenant, id, state, last_event_id, create_time, finish_time, request"
_BEGIN = """
WITH begun AS (
    INSERT INTO answers (tenant, id, owner, state, last_event_id, lease_until, request)
    VALUES (%(tenant)s, %(id)s, %(owner)s, 'running', 1,
        clock_timestamp() + make_interval(secs => %(lease_s)s), %(request)b)
)
INSERT INTO answer_events (tenant, answer_id, event_id, event)
VALUES (%(tenant)s, %(id)s, 1, %(event)b)
"""
_APPEND = """
WITH given AS (
    SELECT * FROM unnest(%(tenants)s::text[], %(ids)s::text[], %(lasts)s::int[],
        %(states)s::text[], %(answers)b::bytea[]) AS g (tenant, id, last, state, answer)
), held AS (
    UPDATE answers a SET last_event_id = g.last,
        state = CASE WHEN g.state = '' THEN a.state ELSE g.state END,
        answer = coalesce(g.answer, a.answer),
        finish_time = CASE WHEN g.state = '' THEN NULL ELSE clock_timestamp() END
    FROM given g
    WHERE a.tenant = g.tenant AND a.id = g.id AND a.owner = %(owner)s AND a.state = 'running'
    RETURNING a.tenant, a.id, a.read_until > clock_timestamp() AS followed
), written AS (
    INSERT INTO answer_events (tenant, answer_id, event_id, event)
    SELECT e.tenant, e.id, e.event_id, e.event
    FROM unnest(%(event_tenants)s::text[], %(event_ids)s::text[], %(numbers)s::int[],
        %(events)b::bytea[]) AS e (tenant, id, event_id, event)
    JOIN held h ON h.tenant = e.tenant AND h.id = e.id
    ON CONFLICT DO NOTHING
)
SELECT tenant, id, followed FROM held
"""
_END = """
WITH ended AS (
    UPDATE answers SET state = %(state)s, finish_time = clock_timestamp(),
        last_event_id = last_event_id + 1
    WHERE tenant = %(tenant)s AND id = %(id)s AND state = 'running'
    RETURNING tenant, id, last_event_id
)
INSERT INTO answer_events (tenant, answer_id, event_id, event)
SELECT tenant, id, last_event_id, %(event)b FROM ended
"""
_REAP = """
WITH lost AS (
    SELECT tenant, id FROM answers WHERE state = 'running' AND lease_until < clock_timestamp()
    LIMIT %(rows)s FOR UPDATE SKIP LOCKED
), ended AS (
    UPDATE answers a SET state = 'failed', finish_time = clock_timestamp(),
        last_event_id = a.last_event_id + 1
    FROM lost WHERE a.tenant = lost.tenant AND a.id = lost.id
    RETURNING a.tenant, a.id, a.last_event_id
)
INSERT INTO answer_events (tenant, answer_id, event_id, event)
SELECT tenant, id, last_event_id, %(event)b FROM ended
"""


async def begin_answer(
    tx: Tx, answer_id: str, *, owner: str, lease_s: float, request: bytes, event: bytes
) -> None:
    """Record an answer that is being written by `owner`, with its first event."""
    await tx.connection.execute(
        _BEGIN,
        {
            "tenant": tx.tenant,
            "id": answer_id,
            "owner": owner,
            "lease_s": lease_s,
            "request": request,
            "event": event,
        },
    )


async def keep_answer(tx: Tx, answer_id: str, request: bytes, answer: bytes) -> None:
    """Record an answer that was no stream and is whole: it has no events.

    The caller waits for it, so it does not wait for the disk: a machine that loses power forgets
    the answers of its last moments, which their callers have.
    """
    await tx.run(
        "WITH hurried AS (SELECT set_config('synchronous_commit', 'off', true)) "
        "INSERT INTO answers (tenant, id, state, last_event_id, finish_time, request, answer) "
        "SELECT %s, %s, 'finished', 0, clock_timestamp(), %b, %b FROM hurried",
        (tx.tenant, answer_id, request, answer),
    )


async def append_events(tx: Tx, owner: str, groups: Sequence[Appended]) -> dict[Key, bool]:
    """Append to the logs of several answers at once, in a system transaction.

    Those of them that were still `owner`'s and running, each with whether somebody on another node
    reads it; of the others nothing was written. Doing it again, after a commit of which nobody
    knows, writes nothing twice.
    """
    flat = [
        (group.tenant, group.id, number, event)
        for group in groups
        for number, event in enumerate(group.events, group.first_event_id)
    ]
    rows = await tx.rows(
        _APPEND,
        {
            "owner": owner,
            "tenants": [g.tenant for g in groups],
            "ids": [g.id for g in groups],
            "lasts": [g.first_event_id + len(g.events) - 1 for g in groups],
            "states": [g.state for g in groups],
            "answers": [g.answer for g in groups],
            "event_tenants": [one[0] for one in flat],
            "event_ids": [one[1] for one in flat],
            "numbers": [one[2] for one in flat],
            "events": [one[3] for one in flat],
        },
    )
    return {(tenant, answer_id): followed for tenant, answer_id, followed in rows}


async def end_answer(tx: Tx, answer_id: str, state: str, event: bytes) -> bool:
    """End a running answer from outside with `event` as its last; whether it was running. Its owner
    can append nothing any more."""
    ended = await tx.run(
        _END, {"tenant": tx.tenant, "id": answer_id, "state": state, "event": event}
    )
    return ended > 0


async def fail_lost(tx: Tx, event: bytes, *, rows_max: int = 200) -> int:
    """End running answers whose writer's lease has run out, with `event` as their last, in a system
    transaction; how many. Any node may do it: whoever comes first."""
    return await tx.run(_REAP, {"event": event, "rows": rows_max})


async def renew_leases(tx: Tx, owner: str, lease_s: float) -> None:
    """Say that `owner` goes on with what it writes, in a system transaction."""
    await tx.run(
        "UPDATE answers SET lease_until = clock_timestamp() + make_interval(secs => %s) "
        "WHERE owner = %s AND state = 'running'",
        (lease_s, owner),
    )


async def held_answers(tx: Tx, owner: str) -> dict[Key, bool]:
    """The running answers of `owner`, each with whether somebody on another node reads it."""
    rows = await tx.rows(
        "SELECT tenant, id, read_until > clock_timestamp() FROM answers "
        "WHERE owner = %s AND state = 'running'",
        (owner,),
    )
    return {(tenant, answer_id): followed for tenant, answer_id, followed in rows}


async def say_read(tx: Tx, keys: Sequence[Key], read_s: float) -> None:
    """Say to the writers of running answers that somebody here reads them."""
    await tx.run(
        "UPDATE answers a SET read_until = clock_timestamp() + make_interval(secs => %s) "
        "FROM unnest(%s::text[], %s::text[]) AS k (tenant, id) "
        "WHERE a.tenant = k.tenant AND a.id = k.id AND a.state = 'running'",
        (read_s, [key[0] for key in keys], [key[1] for key in keys]),
    )


async def get_answer(tx: Tx, answer_id: str) -> AnswerRow:
    """Raises AnswerNotFound, also where it is older than a day and not cleaned up yet."""
    found = await tx.one(
        AnswerRow,
        f"SELECT {_COLUMNS}, answer FROM answers WHERE tenant = %s AND id = %s "
        "AND create_time > clock_timestamp() - make_interval(secs => %s)",
        (tx.tenant, answer_id, KEPT_S),
    )
    if found is None:
        raise AnswerNotFound(
            f"answer {answer_id!r} is not known; answers are kept for a day, so ask again",
            metadata={"answer": answer_id, "kept_s": KEPT_S},
        )
    return found


async def list_answers(tx: Tx, *, state: str, before: str, limit: int) -> list[AnswerRow]:
    """By id from the end, which is the newest first: those before `before`, of `state` if it is
    not empty, with their answers."""
    return await tx.all(
        AnswerRow,
        f"SELECT {_COLUMNS}, answer FROM answers WHERE tenant = %(tenant)s "
        "AND (%(before)s = '' OR id < %(before)s) AND (%(state)s = '' OR state = %(state)s) "
        "AND create_time > clock_timestamp() - make_interval(secs => %(kept_s)s) "
        "ORDER BY id DESC LIMIT %(limit)s",
        {
            "tenant": tx.tenant,
            "before": before,
            "state": state,
            "kept_s": KEPT_S,
            "limit": limit,
        },
    )


async def read_events(tx: Tx, answer_id: str, after: int) -> list[EventRow]:
    """At most `PAGE_EVENTS` events of one log after number `after`, in order."""
    return await tx.all(
        EventRow,
        "SELECT tenant, answer_id, event_id, event FROM answer_events "
        "WHERE tenant = %s AND answer_id = %s AND event_id > %s ORDER BY event_id LIMIT %s",
        (tx.tenant, answer_id, after, PAGE_EVENTS),
    )


async def last_event(tx: Tx, answer_id: str) -> EventRow | None:
    """The last event of a log; None of an answer that was no stream."""
    return await tx.one(
        EventRow,
        "SELECT tenant, answer_id, event_id, event FROM answer_events "
        "WHERE tenant = %s AND answer_id = %s ORDER BY event_id DESC LIMIT 1",
        (tx.tenant, answer_id),
    )


async def new_events(tx: Tx, after: Sequence[tuple[str, str, int]]) -> list[EventRow]:
    """Events of several logs, each after a number, in a system transaction: in order for each log,
    at most `PAGE_EVENTS` of it."""
    return await tx.all(
        EventRow,
        "SELECT e.tenant, e.answer_id, e.event_id, e.event "
        "FROM unnest(%s::text[], %s::text[], %s::int[]) AS k (tenant, id, after) "
        "CROSS JOIN LATERAL (SELECT * FROM answer_events l WHERE l.tenant = k.tenant "
        "  AND l.answer_id = k.id AND l.event_id > k.after ORDER BY l.event_id LIMIT %s) e",
        ([k[0] for k in after], [k[1] for k in after], [k[2] for k in after], PAGE_EVENTS),
    )


async def standings(tx: Tx, keys: Sequence[Key]) -> list[Standing]:
    """How logs stand, in a system transaction. One that is gone is left out."""
    return await tx.all(
        Standing,
        "SELECT a.tenant, a.id, a.state, a.last_event_id "
        "FROM unnest(%s::text[], %s::text[]) AS k (tenant, id) "
        "JOIN answers a ON a.tenant = k.tenant AND a.id = k.id",
        ([key[0] for key in keys], [key[1] for key in keys]),
    )


async def purge_answers(tx: Tx, *, kept_s: float = KEPT_S, rows_max: int = 1000) -> int:
    """Forget answers older than `kept_s` and their events; how many answers."""
    gone = await tx.rows(
        "DELETE FROM answers WHERE (tenant, id) IN ("
        "  SELECT tenant, id FROM answers "
        "  WHERE create_time < now() - make_interval(secs => %s) "
        "  ORDER BY create_time LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING tenant, id",
        (kept_s, rows_max),
    )
    if gone:
        await tx.run(
            "DELETE FROM answer_events e USING unnest(%s::text[], %s::text[]) AS k (tenant, id) "
            "WHERE e.tenant = k.tenant AND e.answer_id = k.id",
            ([row[0] for row in gone], [row[1] for row in gone]),
        )
    return len(gone)
