"""Memories of subjects, and the history of each.

Who changes memories of a subject holds the subject first (`hold_subject`), so that two facts of one
slot that come at the same moment take their places one after the other. Every change raises the
memory's version and adds an event with what the memory is then; nothing else writes these tables.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Literal, TypeAlias

from engine.errors import MemoryChanged, MemoryExists, MemoryNotFound
from services.store.collections import system_collection
from services.store.points import apply_batch
from services.store.store import Tx

Action: TypeAlias = Literal["created", "updated", "closed", "deleted", "merged", "undone"]

COLLECTION = "ragmesh-memories"
"""Of each tenant: the points that memories are found by."""

SUBJECT_LOCK = 0x7261676D
"""The first half of the advisory locks of subjects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """A row. Empty texts and None stand for what a memory does not have; `version` counts its
    changes from 1. The characters [span_start, span_end) of the message are its evidence."""

    id: str
    subject: str
    kind: str
    label: str = ""
    slot: str = ""
    value: str = ""
    text: str
    context: str = ""
    importance: float
    valid_from: datetime
    valid_to: datetime | None = None
    happens_at: datetime | None = None
    learned_at: datetime
    expire_time: datetime | None = None
    session: str = ""
    message: int = 0
    span_start: int = 0
    span_end: int = 0
    merged_into: str = ""
    version: int = 0
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class MemoryEvent:
    """A change: what the memory was after it, None where it was gone."""

    memory: str
    version: int
    subject: str
    action: Action
    event_time: datetime
    state: Memory | None


_NAMES = tuple(field.name for field in fields(Memory))
_COLUMNS = ", ".join(_NAMES)
_TIMES = frozenset(
    [
        "valid_from",
        "valid_to",
        "happens_at",
        "learned_at",
        "expire_time",
        "create_time",
        "update_time",
    ]
)
_PUT = (
    f"INSERT INTO memories (tenant, {_COLUMNS}) "
    f"VALUES (%(tenant)s, {', '.join(f'%({name})s' for name in _NAMES)}) "
    "ON CONFLICT (tenant, id) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _NAMES if name != "id")
)
_LOG = (
    "INSERT INTO memory_events (tenant, memory, version, subject, action, event_time, state) "
    "VALUES (%(tenant)s, %(id)s, %(version)s, %(subject)s, %(action)s, %(time)s, %(state)s)"
)


async def hold_subject(tx: Tx, subject: str) -> None:
    """Nobody else changes memories of the subject until this transaction ends."""
    await tx.run(
        "SELECT pg_advisory_xact_lock(%s, hashtext(%s || chr(10) || %s))",
        (SUBJECT_LOCK, tx.tenant, subject),
    )


async def get_memory(tx: Tx, memory_id: str) -> Memory:
    """Raises MemoryNotFound."""
    found = await tx.one(
        Memory,
        f"SELECT {_COLUMNS} FROM memories WHERE tenant = %s AND id = %s",
        (tx.tenant, memory_id),
    )
    if found is None:
        raise memory_not_found(memory_id)
    return found


async def get_block(tx: Tx, subject: str, label: str) -> Memory | None:
    """The block with a label, if the subject has it."""
    return await tx.one(
        Memory,
        f"SELECT {_COLUMNS} FROM memories WHERE tenant = %s AND subject = %s AND label = %s",
        (tx.tenant, subject, label),
    )


async def list_memories(
    tx: Tx, *, subject: str = "", kind: str = "", after: str = "", limit: int = 1000
) -> list[Memory]:
    """By id, those that come after `after`; of one subject and of one kind, if given."""
    conditions, params = (
        ["tenant = %(tenant)s", "id > %(after)s"],
        {
            "tenant": tx.tenant,
            "after": after,
            "subject": subject,
            "kind": kind,
            "limit": limit,
        },
    )
    if subject:
        conditions.append("subject = %(subject)s")
    if kind:
        conditions.append("kind = %(kind)s")
    return await tx.all(
        Memory,
        f"SELECT {_COLUMNS} FROM memories WHERE {' AND '.join(conditions)} "
        "ORDER BY id LIMIT %(limit)s",
        params,
    )


async def memories_of(tx: Tx, ids: Sequence[str]) -> list[Memory]:
    """Those of these memories that there are, in no order."""
    return await tx.all(
        Memory,
        f"SELECT {_COLUMNS} FROM memories WHERE tenant = %s AND id = ANY(%s)",
        (tx.tenant, list(ids)),
    )


async def last_said(tx: Tx, subject: str, session: str) -> str:
    """The turn of a session that was remembered last, word by word; empty for none."""
    row = await tx.row(
        "SELECT text FROM memories WHERE tenant = %s AND session = %s AND subject = %s "
        "AND kind = 'event' ORDER BY message DESC, id DESC LIMIT 1",
        (tx.tenant, session, subject),
    )
    return str(row[0]) if row else ""


async def list_slot(tx: Tx, subject: str, slot: str, limit: int = 1000) -> list[Memory]:
    """The facts of a slot, the latest first."""
    return await tx.all(
        Memory,
        f"SELECT {_COLUMNS} FROM memories WHERE tenant = %s AND subject = %s AND slot = %s "
        "AND merged_into = '' ORDER BY valid_from DESC, id LIMIT %s",
        (tx.tenant, subject, slot, limit),
    )


async def add_memory(tx: Tx, memory: Memory) -> Memory:
    """A new memory, as its first version. Raises MemoryExists for an id or a label that is taken;
    an id that had a memory before goes on counting its versions."""
    taken = await tx.row(
        "SELECT id FROM memories WHERE tenant = %s AND (id = %s OR (subject = %s AND label = %s "
        "AND label <> ''))",
        (tx.tenant, memory.id, memory.subject, memory.label),
    )
    if taken is not None:
        if taken[0] != memory.id:
            raise label_taken(replace(memory, id=taken[0]))
        raise MemoryExists(
            f"memory {memory.id!r} exists; change that one, or choose another id",
            field="memory_id",
            metadata={"memory": memory.id},
        )
    row = await tx.row(
        "SELECT max(version) FROM memory_events WHERE tenant = %s AND memory = %s",
        (tx.tenant, memory.id),
    )
    return await put_memory(tx, replace(memory, version=int((row and row[0]) or 0)), "created")


async def put_memory(tx: Tx, memory: Memory, action: Action) -> Memory:
    """The memory as it is now, under the version after `memory.version`."""
    changed = replace(memory, version=memory.version + 1)
    params = {"tenant": tx.tenant, **asdict(changed)}
    await tx.run(_PUT, params)
    await _log(tx, changed, action, changed)
    return changed


async def drop_memory(tx: Tx, memory: Memory, now: datetime, action: Action = "deleted") -> None:
    """Delete it; its history stays, and says so."""
    await tx.run("DELETE FROM memories WHERE tenant = %s AND id = %s", (tx.tenant, memory.id))
    gone = replace(memory, version=memory.version + 1, update_time=now)
    await _log(tx, gone, action, None)


async def _log(tx: Tx, memory: Memory, action: Action, state: Memory | None) -> None:
    await tx.run(
        _LOG,
        {
            "tenant": tx.tenant,
            "id": memory.id,
            "version": memory.version,
            "subject": memory.subject,
            "action": action,
            "time": memory.update_time,
            "state": None if state is None else _written(state),
        },
    )


async def history(
    tx: Tx, memory_id: str, *, before: int | None = None, limit: int = 1000
) -> list[MemoryEvent]:
    """The changes of a memory, the newest first; those of lower versions than `before`."""
    rows = await tx.rows(
        "SELECT memory, version, subject, action, event_time, state FROM memory_events "
        "WHERE tenant = %s AND memory = %s AND version < %s ORDER BY version DESC LIMIT %s",
        (tx.tenant, memory_id, 1 << 62 if before is None else before, limit),
    )
    return [
        MemoryEvent(memory, version, subject, action, time, None if state is None else _read(state))
        for memory, version, subject, action, time, state in rows
    ]


def require_version(memory: Memory, version: int, *, required: bool) -> None:
    """Raises MemoryChanged unless the memory stands at `version`; 0 is any, unless `required`."""
    if version == memory.version or (version == 0 and not required):
        return
    raise changed(memory.id, memory.version, version)


def changed(memory_id: str, version: int, given: int) -> MemoryChanged:
    """The error that says that a memory is at another version."""
    return MemoryChanged(
        f"memory {memory_id!r} is at version {version}, not at {given}; read it again and make "
        "your change of what it says now",
        field="version",
        metadata={"memory": memory_id, "version": version, "given": given},
    )


def label_taken(block: Memory) -> MemoryExists:
    """The error that says that this block has the label."""
    return MemoryExists(
        f"the subject has a block {block.label!r}, memory {block.id!r}; change that one, or choose "
        "another label",
        field="memory.label",
        metadata={"memory": block.id, "label": block.label},
    )


def memory_not_found(memory_id: str) -> MemoryNotFound:
    """The error that says so."""
    return MemoryNotFound(
        f"memory {memory_id!r} does not exist; list the subject's memories",
        metadata={"memory": memory_id},
    )


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed in one step: the ids of memories, and how many events."""

    memories: list[str]
    events: int


async def erase_step(tx: Tx, subject: str, rows_max: int) -> Erased:
    """Removes some memories of a subject, and some of their history. Nothing is left where it
    removes nothing."""
    gone = await tx.rows(
        "DELETE FROM memories WHERE tenant = %(tenant)s AND id IN ("
        "SELECT id FROM memories WHERE tenant = %(tenant)s AND subject = %(subject)s "
        "ORDER BY id LIMIT %(limit)s) RETURNING id",
        {"tenant": tx.tenant, "subject": subject, "limit": rows_max},
    )
    events = await tx.rows(
        "DELETE FROM memory_events WHERE tenant = %(tenant)s AND (memory, version) IN ("
        "SELECT memory, version FROM memory_events WHERE tenant = %(tenant)s "
        "AND subject = %(subject)s ORDER BY memory, version LIMIT %(limit)s) RETURNING memory",
        {"tenant": tx.tenant, "subject": subject, "limit": rows_max},
    )
    return Erased([row[0] for row in gone], len(events))


async def count_traces(tx: Tx, subject: str) -> int:
    """Rows of a subject: memories and events."""
    row = await tx.row(
        "SELECT (SELECT count(*) FROM memories WHERE tenant = %(tenant)s AND subject = %(subject)s)"
        " + (SELECT count(*) FROM memory_events WHERE tenant = %(tenant)s "
        "AND subject = %(subject)s)",
        {"tenant": tx.tenant, "subject": subject},
    )
    return int(row[0]) if row else 0


async def purge_memories(tx: Tx, *, rows_max: int = 1000) -> int:
    """Forget memories of a tenant whose time is over, with their history and their points; for
    `Store.system`."""
    rows = await tx.rows(
        "SELECT tenant, id FROM memories WHERE expire_time <= now() AND tenant = ("
        "  SELECT tenant FROM memories WHERE expire_time <= now() ORDER BY expire_time LIMIT 1) "
        "ORDER BY expire_time LIMIT %s FOR UPDATE SKIP LOCKED",
        (rows_max,),
    )
    if not rows:
        return 0
    tenant, ids = rows[0][0], [row[1] for row in rows]
    for table, column in (("memories", "id"), ("memory_events", "memory")):
        await tx.run(f"DELETE FROM {table} WHERE tenant = %s AND {column} = ANY(%s)", (tenant, ids))
    collection = await system_collection(tx, tenant, COLLECTION)
    if collection is not None:
        await apply_batch(tx, collection, deletes=ids)
    return len(ids)


def _written(memory: Memory) -> str:
    values = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(memory).items()
    }
    return json.dumps(values, ensure_ascii=False)


def _read(state: dict[str, object]) -> Memory:
    values = {
        name: datetime.fromisoformat(value) if name in _TIMES and isinstance(value, str) else value
        for name, value in state.items()
    }
    return Memory(**values)  # type: ignore[arg-type]
