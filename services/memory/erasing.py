"""The erasure of a subject, and the look afterwards that says whether anything is left.

Rows and points go first, in steps that others do not wait for; a step that is cut off is done again
by the next call. Then segments are built without the points: until then deleted vectors lie in
files. What is counted in the end is what is there, not what was done.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from engine.errors import CollectionNotFound
from services.memory import indexing, siblings
from services.mesh.mesh import Mesh
from services.rpc import names
from services.rpc.call import Call
from services.store import memories
from services.store.collections import Collection
from services.store.memories import Erased
from services.store.points import apply_batch
from services.store.store import Store, Tx

STEP_ROWS = 1_000


@dataclass(frozen=True, slots=True)
class Receipt:
    """What an erasure removed and what it found afterwards. `subject_sha256` is hexadecimal."""

    receipt_id: str
    subject_sha256: str
    memories: int
    events: int
    compacted_points: int
    rows_left: int
    points_left: int
    complete: bool
    erase_time: datetime
    watermark: str


async def erase(store: Store, mesh: Mesh, subject: str, call: Call) -> Receipt:
    """Removes every trace of a subject that memories have left. Raises what the store raises, and
    what the retrieval service does: then it is to be called again."""
    try:
        collection: Collection | None = await indexing.present(store, call)
    except CollectionNotFound:
        collection = None
    removed = events = 0
    watermark = ""
    while True:
        step, watermark_now = await _step(store, collection, subject, call)
        watermark = watermark_now or watermark
        removed += len(step.memories)
        events += step.events
        if not step.memories and not step.events:
            break
    compacted, points, settled = 0, 0, True
    if collection is not None:
        done = await siblings.compact(mesh, memories.COLLECTION, call)
        settled = not done.rolled_back
        compacted = done.tombstones_removed
        watermark = done.watermark or watermark
        points = await siblings.points_left(mesh, memories.COLLECTION, subject, watermark, call)
    async with store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
        rows = await memories.count_traces(tx, subject)
    return Receipt(
        receipt_id=names.new_id(),
        subject_sha256=hashlib.sha256(subject.encode()).hexdigest(),
        memories=removed,
        events=events,
        compacted_points=compacted,
        rows_left=rows,
        points_left=points,
        complete=settled and not rows and not points,
        erase_time=datetime.now(UTC),
        watermark=watermark,
    )


async def _step(
    store: Store, collection: Collection | None, subject: str, call: Call
) -> tuple[Erased, str]:
    async def work(tx: Tx) -> tuple[Erased, str]:
        await memories.hold_subject(tx, subject)
        step = await memories.erase_step(tx, subject, STEP_ROWS)
        if collection is None:
            return step, ""
        commit = await apply_batch(tx, collection, deletes=step.memories)
        return step, str(commit.seq)

    return await store.run(call.tenant, work, timeout_s=call.remaining_s())
