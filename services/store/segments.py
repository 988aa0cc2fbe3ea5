"""Which sealed files a collection's indexes consist of: a part of its log.

Publishing is a commit like a write: it takes the next number under the same row lock. So an index
that stands at a commit has exactly the segments of that commit, whichever node it is on.

What is true at every commit: a row (id, seq) that is live, with `seq` up to the collection's
`sealed_seq`, is in exactly one current segment. A segment may hold dead rows besides. Seals raise
`sealed_seq` and are refused where it is not what they began with; merges leave it alone and are
refused where a segment that they replace is not current any more. So the two may go on at once.

Why an adopted file cannot be gone: clean-up condemns a file that nothing names under a lock that
`publish` shares, and deletes only what is condemned. Under that lock `publish` refuses what is
condemned or does not exist.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from collections.abc import Collection as Names
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, TypeAlias

from services.store.collections import Collection, VectorStorage, collection_not_found
from services.store.points import Watermark
from services.store.store import Row, Tx

Reason: TypeAlias = Literal["seal", "merge", "compact"]
Work: TypeAlias = Literal["seal", "merge"]

NAMES_LOCK = 0x7261676D657369
"""The advisory lock of what names objects: shared to adopt, exclusive to condemn."""


@dataclass(frozen=True, slots=True)
class NewSegment:
    """A file to adopt. `sha256` has 32 bytes; `rows` counts the dead ones too."""

    sha256: bytes
    rows: int
    size_bytes: int
    reason: Reason

    @property
    def name(self) -> str:
        """The object's name: the hash in hexadecimal digits."""
        return self.sha256.hex()


@dataclass(frozen=True, slots=True)
class SegmentRow(NewSegment):
    """A segment that is current since commit `adopted_seq`, and until `retired_seq` if it is set.

    `sealed_seq` is the collection's, as the adopting commit left it.
    """

    adopted_seq: int
    retired_seq: int | None
    sealed_seq: int
    create_time: datetime


@dataclass(frozen=True, slots=True)
class Outdated:
    """What was built does not fit the log any more, and nothing was written: throw it away."""

    reason: str


Published: TypeAlias = Watermark | Outdated

CURRENT = (
    "SELECT sha256, rows, size_bytes, reason, adopted_seq, retired_seq, sealed_seq, create_time "
    "FROM segments WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
    "AND retired_seq IS NULL ORDER BY adopted_seq, sha256"
)
_CONDEMNED = "SELECT sha256 FROM condemned_objects WHERE sha256 = ANY(%(added)s)"
_LOCK = (
    "SELECT seq, change_id, sealed_seq FROM heads "
    "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s FOR NO KEY UPDATE"
)
_STORAGE = (
    "SELECT vector_storage FROM collections WHERE tenant = %(tenant)s AND uid = %(uid)s FOR SHARE"
)
_PUBLISH = """
WITH head AS (
    UPDATE heads SET seq = seq + 1, change_id = gen_random_uuid(), sealed_seq = %(sealed_seq)s
    WHERE tenant = %(tenant)s AND collection_uid = %(uid)s
    RETURNING seq, change_id, sealed_seq
), logged AS (
    INSERT INTO commits (tenant, collection_uid, seq, change_id, commit_time)
    SELECT %(tenant)s, %(uid)s, seq, change_id, clock_timestamp() FROM head
), replaced AS (
    UPDATE segments s SET retired_seq = head.seq, retire_time = clock_timestamp() FROM head
    WHERE s.tenant = %(tenant)s AND s.collection_uid = %(uid)s AND s.sha256 = ANY(%(retired)s)
), adopted AS (
    INSERT INTO segments (tenant, collection_uid, sha256, adopted_seq, sealed_seq, rows,
        size_bytes, reason)
    SELECT %(tenant)s, %(uid)s, a.sha256, head.seq, head.sealed_seq, a.rows, a.size_bytes, a.reason
    FROM head, unnest(%(added)s::bytea[], %(rows)s::bigint[], %(sizes)s::bigint[],
        %(reasons)s::text[]) AS a (sha256, rows, size_bytes, reason)
    ON CONFLICT (tenant, collection_uid, sha256) DO UPDATE SET
        adopted_seq = excluded.adopted_seq, sealed_seq = excluded.sealed_seq,
        reason = excluded.reason, create_time = clock_timestamp(),
        retired_seq = NULL, retire_time = NULL
)
SELECT seq, change_id FROM head
"""


async def publish(
    tx: Tx,
    collection: Collection,
    added: Sequence[NewSegment],
    retired: Sequence[bytes] = (),
    *,
    sealed_from: int,
    sealed_seq: int,
    exists: Callable[[str], Awaitable[bool]],
    storage: VectorStorage | None = None,
) -> Published:
    """Adopt `added` and retire `retired` as one commit. The last thing a transaction does, once.

    `sealed_from` is the `sealed_seq` that the work began with, `sealed_seq` the one it leads to:
    equal where only segments are replaced, and then the present one stays. `exists` says whether
    the object store has an object of that name. A segment that is both added and retired stays as
    it is. `storage`, if given, is how the segments keep vectors: they are not wanted where the
    collection keeps them otherwise by now. With nothing to do there is no new commit and the
    present one is named. Raises CollectionNotFound, and ValueError for what no log could allow.
    """
    both = {segment.sha256 for segment in added}.intersection(retired)
    added = [segment for segment in added if segment.sha256 not in both]
    retired = [name for name in retired if name not in both]
    _check(added, retired, sealed_from, sealed_seq)
    params = {
        "tenant": collection.tenant,
        "uid": collection.uid,
        "added": [segment.sha256 for segment in added],
        "rows": [segment.rows for segment in added],
        "sizes": [segment.size_bytes for segment in added],
        "reasons": [segment.reason for segment in added],
        "retired": list(retired),
    }
    # Before the head is locked: nobody who writes points waits for the object store.
    missing = await _missing(tx, added, params, exists)
    if missing is not None:
        return Outdated(missing)
    if storage is not None:
        chosen = await tx.row(_STORAGE, params)
        if chosen is not None and chosen[0] != storage:
            return Outdated(f"vectors are kept as {chosen[0]} by now, and not as {storage}")
    present, current = await _locked(tx, collection, params)
    refused = _refusal(present[2], current, added, retired, sealed_from, sealed_seq)
    if refused is not None:
        return Outdated(refused)
    if sealed_seq > present[0]:
        raise ValueError(f"sealed_seq {sealed_seq} is beyond the last commit, {present[0]}")
    if not added and not retired and sealed_seq == sealed_from:
        return Watermark(present[0], present[1])
    return await _commit(tx, params, max(present[2], sealed_seq))


async def reset_segments(tx: Tx, collection: Collection, lost: bytes) -> Published:
    """Retire every segment of a collection because the object of one is lost, as one commit.

    Its rows are in the log, and are sealed again from there. Refused where `lost` is not current:
    somebody else was first. Raises CollectionNotFound.
    """
    params = _nothing(collection)
    _, current = await _locked(tx, collection, params)
    if lost not in current:
        return Outdated(f"segment {lost.hex()} is not current any more")
    return await _commit(tx, {**params, "retired": list(current)}, 0)


async def mark_storage(tx: Tx, collection: Collection, *, retire: bool) -> Watermark:
    """The commit from which on the collection's `vector_storage` is another: indexes that stand at
    one commit compare vectors alike. `retire` every segment where they lack what is to be kept:
    their rows are sealed again from the log. Raises CollectionNotFound.
    """
    params = _nothing(collection)
    head, current = await _locked(tx, collection, params)
    return await _commit(
        tx, {**params, "retired": list(current) if retire else []}, 0 if retire else head[2]
    )


async def segments_at(tx: Tx, collection: Collection) -> list[SegmentRow]:
    """The current segments, by the commit that adopted them."""
    return await tx.all(SegmentRow, CURRENT, {"tenant": collection.tenant, "uid": collection.uid})


async def claim_build(
    tx: Tx, collection: Collection, owner: str, ttl_s: float, work: Work = "seal"
) -> bool:
    """Take, or extend, the lease to build for a collection. False where another owner has it, or
    the collection is gone. Seals and merges have a lease each: a long merge holds up no seal.
    """
    return bool(
        await tx.run(
            "INSERT INTO builds (tenant, collection_uid, work, owner, until) "
            "SELECT tenant, collection_uid, %(work)s, %(owner)s, "
            "  clock_timestamp() + make_interval(secs => %(ttl_s)s) "
            "FROM heads WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
            "ON CONFLICT (tenant, collection_uid, work) DO UPDATE "
            "SET owner = excluded.owner, until = excluded.until "
            "WHERE builds.owner = excluded.owner OR builds.until <= clock_timestamp()",
            {**_lease(collection, owner, work), "ttl_s": ttl_s},
        )
    )


async def release_build(tx: Tx, collection: Collection, owner: str, work: Work = "seal") -> None:
    """Give the lease back. Nothing happens where it is another's by now."""
    await tx.run(
        "DELETE FROM builds WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
        "AND work = %(work)s AND owner = %(owner)s",
        _lease(collection, owner, work),
    )


def _nothing(collection: Collection) -> dict[str, Any]:
    """Parameters of a commit that adopts no segment."""
    return {
        "tenant": collection.tenant,
        "uid": collection.uid,
        **{name: [] for name in ("added", "rows", "sizes", "reasons", "retired")},
    }


def _lease(collection: Collection, owner: str, work: Work) -> dict[str, Any]:
    return {
        "tenant": collection.tenant,
        "uid": collection.uid,
        "work": work,
        "owner": owner,
    }


def _check(
    added: Sequence[NewSegment], retired: Sequence[bytes], sealed_from: int, sealed_seq: int
) -> None:
    for names in ([segment.sha256 for segment in added], retired):
        if len(set(names)) != len(names):
            raise ValueError("a segment is named twice")
    if sealed_seq < sealed_from:
        raise ValueError(f"sealed_seq goes back from {sealed_from} to {sealed_seq}")
    if added and not retired and sealed_seq == sealed_from:
        raise ValueError("the rows of the added segments have no place that they come from")


def _refusal(
    sealed: int,
    current: Names[bytes],
    added: Sequence[NewSegment],
    retired: Sequence[bytes],
    sealed_from: int,
    sealed_seq: int,
) -> str | None:
    """Why what was built does not fit the present segments; None where it does."""
    if sealed_seq > sealed_from != sealed:
        return f"rows up to {sealed} are sealed by now, and the work began at {sealed_from}"
    for name in retired:
        if name not in current:
            return f"segment {name.hex()} is not current any more"
    for segment in added:
        if segment.sha256 in current:
            return f"segment {segment.name} is current already"
    return None


async def _missing(
    tx: Tx,
    added: Sequence[NewSegment],
    params: dict[str, Any],
    exists: Callable[[str], Awaitable[bool]],
) -> str | None:
    if not added:
        return None
    await tx.rows("SELECT pg_advisory_xact_lock_shared(%s)", (NAMES_LOCK,))
    for (name,) in await tx.rows(_CONDEMNED, params):
        return f"object {name.hex()} is about to be deleted; put it again later"
    for segment in added:
        if not await exists(segment.name):
            return f"object {segment.name} is not in the object store; put it again"
    return None


async def _locked(
    tx: Tx, collection: Collection, params: dict[str, Any]
) -> tuple[tuple[int, uuid.UUID, int], set[bytes]]:
    """The head, locked until the commit, and the segments that are current under that lock."""
    async with tx.connection.pipeline():
        lock = await tx.connection.execute(_LOCK, params, binary=True)
        segments = await tx.connection.execute(CURRENT.encode(), params, binary=True)
        head: Row | None = await lock.fetchone()
        current = {row[0] for row in await segments.fetchall()}
    if head is None:
        raise collection_not_found(collection.id)
    return (head[0], head[1], head[2]), current


async def _commit(tx: Tx, params: dict[str, Any], sealed_seq: int) -> Watermark:
    made = await tx.row(_PUBLISH, {**params, "sealed_seq": sealed_seq})
    assert made is not None
    return Watermark(made[0], made[1])
