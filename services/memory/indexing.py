"""The points of memories: a collection of the tenant that the memory service keeps for itself.

The rows are the truth. A point is written in the transaction that writes its memory, so that a
search from that commit on finds what the row says. The payload has only what searches filter by;
what is recalled is read from the rows.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from engine.errors import CollectionExists, CollectionNotFound
from engine.types import JsonValue
from services.memory import siblings
from services.memory.siblings import Embedded
from services.mesh.mesh import Mesh
from services.rpc.call import Call
from services.store import collections
from services.store.changes import POINT_COLUMNS, POINT_ROWS, stored_point
from services.store.collections import Collection, CollectionSpec
from services.store.memories import COLLECTION, Memory
from services.store.points import Commit, PointRow, apply_batch
from services.store.store import Store, Tx

T = TypeVar("T")
Work: TypeAlias = Callable[[Tx], Awaitable[T]]
"""What is done in one transaction."""

MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)


async def opened(store: Store, mesh: Mesh, call: Call) -> Collection:
    """The index of the tenant's memories; it is made with the first of them."""
    try:
        return await present(store, call)
    except CollectionNotFound:
        spec = await siblings.index_spec(mesh, call)

    async def work(tx: Tx) -> Collection:
        return await _made(tx, spec)

    try:
        return await store.run(call.tenant, work, timeout_s=call.remaining_s())
    except CollectionExists:
        return await present(store, call)  # another call made it meanwhile


async def present(store: Store, call: Call) -> Collection:
    """The index. Raises CollectionNotFound where nothing was ever remembered, and CollectionExists
    where the tenant has a collection of its own under this name."""
    async with store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
        found = await collections.get_collection(tx, COLLECTION)
    if not found.system:
        raise CollectionExists(
            f"Collection {COLLECTION!r} is one of the tenant's own, but memories are kept under "
            "this name. Export it, import it under another name, and delete it.",
            metadata={"collection": COLLECTION},
        )
    return found


async def _made(tx: Tx, spec: CollectionSpec) -> Collection:
    # From the present milliseconds on, so that watermarks of an index that was before it are not
    # waited for.
    first_seq = time.time_ns() // 1_000_000
    return await collections.create_collection(
        tx, COLLECTION, spec, first_seq=first_seq, system=True
    )


def indexed_text(memory: Memory) -> str:
    """What a memory is found by: the day it was said, what it was said to, its label, and what it
    says. Empty for a block without a text."""
    if not memory.text:
        return ""
    day = f"{memory.learned_at.day} {MONTHS[memory.learned_at.month - 1]} {memory.learned_at.year}"
    parts = (day, memory.context, memory.label, memory.text)
    return "\n".join(part for part in parts if part)


async def write_points(
    tx: Tx,
    collection: Collection,
    changed: Iterable[Memory],
    gone: Sequence[str],
    embedded: Mapping[str, Embedded],
) -> Commit:
    """Has the index say what the rows say, as the last thing a transaction does. A memory without a
    new vector keeps the one that its point has."""
    shown = {one.id: one for one in changed if not one.merged_into and indexed_text(one)}
    hidden = {one.id for one in changed} - shown.keys()
    before = await _points(tx, collection, [one for one in shown if one not in embedded])
    rows = []
    for memory_id, memory in shown.items():
        if memory_id in embedded:
            made = embedded[memory_id]
            rows.append(
                PointRow(
                    id=memory_id,
                    vector=made.vector,
                    sentences=made.sentences,
                    text=indexed_text(memory),
                    payload=payload(memory),
                )
            )
        elif memory_id in before:
            old = before[memory_id]
            rows.append(
                PointRow(
                    id=memory_id,
                    vector=old.vector,
                    sentences=old.sentences,
                    text=old.text,
                    payload=payload(memory),
                )
            )
    return await apply_batch(tx, collection, rows, [*gone, *hidden])


def payload(memory: Memory) -> Mapping[str, JsonValue]:
    """What searches filter memories by. `holds` has the subject as long as no end is known."""
    found: dict[str, JsonValue] = {
        "subject": memory.subject,
        "kind": memory.kind,
        "valid_from": memory.valid_from.isoformat(),
    }
    if memory.valid_to is None:
        found["holds"] = memory.subject
    else:
        found["valid_to"] = memory.valid_to.isoformat()
    return found


async def _points(tx: Tx, collection: Collection, ids: Sequence[str]) -> dict[str, PointRow]:
    if not ids:
        return {}
    rows = await tx.rows(
        f"SELECT {POINT_COLUMNS} FROM {POINT_ROWS} WHERE p.tenant = %s AND p.collection_uid = %s "
        "AND p.id = ANY(%s)",
        (collection.tenant, collection.uid, list(ids)),
    )
    points = [stored_point(row).point for row in rows]
    return {
        one.id: PointRow(id=one.id, vector=one.vector, sentences=one.sentences, text=one.text)
        for one in points
    }
