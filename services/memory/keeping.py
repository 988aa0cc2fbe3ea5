"""Changes of memories: rows, their history and their points in one transaction.

Whoever changes memories of a subject holds it (`Changes.begin`), so every decision is made of what
is there then. Vectors are made before, since a transaction waits for no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from engine.errors import InvalidField, MemoryNotFound
from engine.memory.consolidating import Merge, Mergeable, merges
from engine.memory.extract import Extracted
from engine.memory.kinds import TURN_IMPORTANCE, Kind
from engine.memory.times import Held, place
from engine.types import Span
from services.memory import indexing
from services.memory.siblings import Embedded
from services.rpc import names
from services.store import memories
from services.store.collections import Collection
from services.store.memories import Memory, MemoryEvent
from services.store.store import Tx

CONTEXT_CHARACTERS_MAX = 500
"""Of what a turn was said to, its end: where an answer stands, its question ended."""


@dataclass(slots=True)
class Changes:
    """What one transaction does to the memories of a subject; `finish` is its last act."""

    tx: Tx
    now: datetime
    made: list[Memory] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    known: list[Memory] = field(default_factory=list)
    _changed: dict[str, Memory] = field(default_factory=dict)
    _gone: list[str] = field(default_factory=list)

    @classmethod
    async def begin(cls, tx: Tx, subject: str) -> Changes:
        """Holds the subject until the transaction ends."""
        await memories.hold_subject(tx, subject)
        return cls(tx, datetime.now(UTC))

    async def add(self, memory: Memory) -> None:
        """A new memory. One with a slot takes its place among the facts of the slot: it closes what
        held until it begins, or is known already. Raises MemoryExists."""
        if memory.slot and memory.valid_to is None:
            held = await memories.list_slot(self.tx, memory.subject, memory.slot)
            placed = place(memory.value, memory.valid_from, [_held(one) for one in held])
            by_id = {one.id: one for one in held}
            if placed.known:
                self.known.append(by_id[placed.known])
                return
            for memory_id in placed.closes:
                ended = replace(by_id[memory_id], valid_to=memory.valid_from, update_time=self.now)
                await self._put(ended, "closed")
                self.closed.append(memory_id)
            memory = replace(memory, valid_to=placed.valid_to)
        added = await memories.add_memory(self.tx, memory)
        self.made.append(added)
        self._changed[added.id] = added

    async def update(self, memory: Memory) -> Memory:
        """The memory as it is to be. Raises InvalidField where it would end before it begins."""
        if memory.valid_to is not None and memory.valid_to <= memory.valid_from:
            raise InvalidField(
                f"valid_to is {memory.valid_to.isoformat()}, but the memory holds from "
                f"{memory.valid_from.isoformat()} on. Give a later time, or delete it.",
                field="valid_to",
            )
        return await self._put(replace(memory, update_time=self.now), "updated")

    async def delete(self, memory: Memory) -> None:
        """The memory goes; its history stays."""
        await memories.drop_memory(self.tx, memory, self.now)
        self._gone.append(memory.id)

    async def undo(self, last: MemoryEvent, former: Memory | None) -> Memory | None:
        """The memory as it was before; None where it was not there. Raises MemoryExists where the
        label of a block that comes back is taken by now."""
        if former is None:
            if last.state is not None:
                await memories.drop_memory(self.tx, last.state, self.now, "undone")
                self._gone.append(last.memory)
            return None
        if former.label:
            other = await memories.get_block(self.tx, former.subject, former.label)
            if other is not None and other.id != former.id:
                raise memories.label_taken(other)
        again = replace(former, version=last.version, update_time=self.now)
        return await self._put(again, "undone")

    async def merge(self, found: Sequence[Merge], rows: Mapping[str, Memory]) -> None:
        """Lets the kept memories stand for the merged ones."""
        for one in found:
            for memory_id in one.merged:
                merged = replace(rows[memory_id], merged_into=one.kept, update_time=self.now)
                await self._put(merged, "merged")

    async def finish(self, collection: Collection, embedded: Mapping[str, Embedded]) -> str:
        """Writes the points; the commit's number, as a watermark."""
        commit = await indexing.write_points(
            self.tx, collection, self._changed.values(), self._gone, embedded
        )
        return str(commit.seq)

    async def _put(self, memory: Memory, action: memories.Action) -> Memory:
        put = await memories.put_memory(self.tx, memory, action)
        self._changed[put.id] = put
        return put


def _held(row: Memory) -> Held:
    return Held(row.id, row.value, row.valid_from, row.valid_to)


@dataclass(frozen=True, slots=True)
class Said:
    """A turn and what rules found in it. `place` is its message's index in the session."""

    subject: str
    session: str
    place: int
    speaker: str
    text: str
    context: str
    said_at: datetime
    found: Sequence[Extracted]


def memories_of(said: Said, now: datetime, *, facts_only: bool) -> list[Memory]:
    """The memories to make of a turn: the turn itself as an event, unless a single finding says all
    of it, and each finding."""
    whole = Span(0, len(said.text))
    first_only = len(said.found) == 1 and said.found[0].span == whole
    rows = []
    if not facts_only and not first_only:
        event = Extracted(Kind.EVENT, said.text, whole, TURN_IMPORTANCE, said.said_at)
        rows.append(_row(said, event, now))
    return rows + [_row(said, one, now) for one in said.found]


def _row(said: Said, one: Extracted, now: datetime) -> Memory:
    return Memory(
        id=names.new_id(),
        subject=said.subject,
        kind=one.kind,
        slot=one.slot,
        value=one.value,
        text=f"{said.speaker}: {one.text}" if said.speaker else one.text,
        context=said.context[-CONTEXT_CHARACTERS_MAX:],
        importance=one.importance,
        valid_from=one.valid_from,
        happens_at=one.happens_at,
        learned_at=said.said_at,
        session=said.session,
        message=said.place,
        span_start=one.span.start,
        span_end=one.span.end,
        create_time=now,
        update_time=now,
    )


def alike(rows: Sequence[Memory], limit: int) -> list[Merge]:
    """Which of the memories that hold say the same. Blocks are never merged."""
    return merges(
        [
            Mergeable(
                row.id,
                row.kind,
                row.text,
                row.importance,
                row.learned_at,
                row.slot,
                row.happens_at,
            )
            for row in rows
            if row.kind != Kind.BLOCK and not row.merged_into and row.valid_to is None
        ],
        limit,
    )


def former_state(events: Sequence[MemoryEvent], memory_id: str, version: int) -> Memory | None:
    """What a memory was at a version, or before its last change where that is 0; `events` are its
    changes, the newest first. Raises MemoryNotFound for what never was."""
    if not events:
        raise memories.memory_not_found(memory_id)
    if version == 0:
        return events[1].state if len(events) > 1 else None
    for event in events:
        if event.version == version:
            return event.state
    raise MemoryNotFound(
        f"memory {memory_id!r} has no version {version}; its last one is {events[0].version}",
        field="version",
        metadata={"memory": memory_id, "version": version, "last": events[0].version},
    )
