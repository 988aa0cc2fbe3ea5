"""Collections as they were at a commit, and the files that keep them so.

Why a snapshot's files cannot be gone: it is recorded under the lock that condemning takes, when
none of them is condemned and all exist; and clean-up condemns nothing that a snapshot names.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.errors import SnapshotExists, SnapshotNotFound
from services.store.codec import pack_sentences, pack_sparse, pack_tokens, pack_vector
from services.store.collections import (
    Collection,
    CollectionSpec,
    collection_not_found,
    collections_of,
)
from services.store.points import PointRow, Watermark
from services.store.segments import NAMES_LOCK, Outdated
from services.store.store import Tx


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A row. `settings` are those of a `CollectionSpec`; `size_bytes` of all its objects."""

    tenant: str
    collection_uid: uuid.UUID
    uid: uuid.UUID
    id: str
    seq: int
    change_id: uuid.UUID
    points: int
    size_bytes: int
    settings: Mapping[str, Any]
    create_time: datetime

    @property
    def spec(self) -> CollectionSpec:
        """What a collection like it is made with. Settings that this version does not know are
        left out; those it has since are at their default."""
        known = CollectionSpec.__dataclass_fields__
        return CollectionSpec(**{k: v for k, v in self.settings.items() if k in known})


@dataclass(frozen=True, slots=True)
class SnapshotObject:
    """An object of a snapshot. `own` is true of the one that is no segment; `rows` counts dead
    ones too."""

    sha256: bytes
    rows: int
    size_bytes: int
    own: bool

    @property
    def name(self) -> str:
        """The object's name: the hash in hexadecimal digits."""
        return self.sha256.hex()


_COLUMNS = (
    "tenant, collection_uid, uid, id, seq, change_id, points, size_bytes, settings, create_time"
)
_SEGMENTS = (
    "SELECT sha256, rows, size_bytes, false AS own FROM segments "
    "WHERE tenant = %s AND collection_uid = %s AND sha256 = ANY(%s)"
)
_ADD = f"""
WITH added AS (
    INSERT INTO snapshots (tenant, collection_uid, uid, id, seq, change_id, points, size_bytes,
        settings)
    SELECT %(tenant)s, %(home_uid)s, %(uid)s, %(id)s, %(seq)s, %(change_id)s, %(points)s,
        %(size_bytes)s, %(settings)s::json
    WHERE EXISTS (SELECT FROM heads WHERE tenant = %(tenant)s
        AND collection_uid = %(collection_uid)s AND closed_until < 'infinity' FOR KEY SHARE)
    ON CONFLICT (tenant, collection_uid, id) DO NOTHING
    RETURNING {_COLUMNS}
), named AS (
    INSERT INTO snapshot_objects (tenant, snapshot_uid, sha256, rows, size_bytes, own)
    SELECT %(tenant)s, %(uid)s, o.sha256, o.rows, o.size_bytes, o.own
    FROM added, unnest(%(names)s::bytea[], %(rows)s::bigint[], %(sizes)s::bigint[],
        %(owns)s::boolean[]) AS o (sha256, rows, size_bytes, own)
)
SELECT {_COLUMNS} FROM added
"""
_RESTORE = """
INSERT INTO points (tenant, collection_uid, id, seq, vector, text, payload, sentences,
    token_vectors, sparse_vector, passage_index)
SELECT %(tenant)s, %(uid)s, t.id, t.seq, t.vector, t.text, t.payload::json, t.sentences, t.tokens,
    t.sparse, 0
FROM unnest(%(ids)b::text[], %(seqs)s::bigint[], %(vectors)b::bytea[], %(texts)b::text[],
    %(payloads)b::text[], %(sentences)b::bytea[], %(tokens)b::bytea[], %(sparse)b::bytea[])
    AS t (id, seq, vector, text, payload, sentences, tokens, sparse)
"""


async def add_snapshot(
    tx: Tx,
    collection: Collection,
    snapshot_id: str,
    at: Watermark,
    points: int,
    own: SnapshotObject,
    segments: Sequence[bytes],
    exists: Callable[[str], Awaitable[bool]],
) -> Snapshot | Outdated:
    """Record a snapshot of what a collection was at `at`: an object of its own, and segments.

    Outdated, and nothing recorded, where an object may be gone: look again and call again.
    Raises SnapshotExists, and CollectionNotFound where it is gone or another index took over: what
    was written since is not in this one.
    """
    await tx.rows("SELECT pg_advisory_xact_lock_shared(%s)", (NAMES_LOCK,))
    key = (collection.tenant, collection.uid)
    objects = await tx.all(SnapshotObject, _SEGMENTS, (*key, list(segments)))
    if len(objects) != len(segments):
        return Outdated("a segment was retired meanwhile")
    objects.append(own)
    names = [one.sha256 for one in objects]
    if await tx.row("SELECT 1 FROM condemned_objects WHERE sha256 = ANY(%s)", (names,)):
        return Outdated("an object is about to be deleted")
    for one in objects:
        if not await exists(one.name):
            return Outdated(f"object {one.name} is not in the object store")
    # As they are by now: the caller may have read the collection a while ago. How its vectors are
    # kept is as the segments have them.
    present = (await collections_of(tx, [collection.uid]) or [collection])[0]
    settings = {name: getattr(present, name) for name in CollectionSpec.__dataclass_fields__}
    settings["vector_storage"] = collection.vector_storage
    made = await tx.one(
        Snapshot,
        _ADD,
        {
            "tenant": collection.tenant,
            "collection_uid": collection.uid,
            "home_uid": collection.home_uid,
            "uid": uuid.uuid4(),
            "id": snapshot_id,
            "seq": at.seq,
            "change_id": at.change_id,
            "points": points,
            "size_bytes": sum(one.size_bytes for one in objects),
            "settings": json.dumps(settings),
            "names": names,
            "rows": [one.rows for one in objects],
            "sizes": [one.size_bytes for one in objects],
            "owns": [one.own for one in objects],
        },
    )
    if made is None:
        if await tx.row(
            "SELECT 1 FROM heads WHERE tenant = %s AND collection_uid = %s "
            "AND closed_until < 'infinity'",
            key,
        ):
            raise SnapshotExists(
                f"snapshot {snapshot_id!r} of collection {collection.id!r} exists; choose another "
                "id",
                metadata={"collection": collection.id, "snapshot": snapshot_id},
            )
        raise collection_not_found(collection.id)
    return made


async def get_snapshot(tx: Tx, collection: Collection, snapshot_id: str) -> Snapshot:
    """Raises SnapshotNotFound."""
    found = await tx.one(
        Snapshot,
        f"SELECT {_COLUMNS} FROM snapshots WHERE tenant = %s AND collection_uid = %s AND id = %s",
        (collection.tenant, collection.home_uid, snapshot_id),
    )
    if found is None:
        raise _not_found(collection, snapshot_id)
    return found


async def list_snapshots(
    tx: Tx, collection: Collection, *, after: str = "", limit: int = 1000
) -> list[Snapshot]:
    """By id, those that come after `after`."""
    return await tx.all(
        Snapshot,
        f"SELECT {_COLUMNS} FROM snapshots WHERE tenant = %s AND collection_uid = %s AND id > %s "
        "ORDER BY id LIMIT %s",
        (collection.tenant, collection.home_uid, after, limit),
    )


async def delete_snapshot(tx: Tx, collection: Collection, snapshot_id: str) -> None:
    """Raises SnapshotNotFound. What only it named is deleted by clean-up."""
    gone = await tx.run(
        "DELETE FROM snapshots WHERE tenant = %s AND collection_uid = %s AND id = %s",
        (collection.tenant, collection.home_uid, snapshot_id),
    )
    if not gone:
        raise _not_found(collection, snapshot_id)


async def snapshot_objects(tx: Tx, snapshot: Snapshot) -> list[SnapshotObject]:
    """By name. Empty where the snapshot was deleted meanwhile and cleaned up."""
    return await tx.all(
        SnapshotObject,
        "SELECT sha256, rows, size_bytes, own FROM snapshot_objects "
        "WHERE tenant = %s AND snapshot_uid = %s ORDER BY sha256",
        (snapshot.tenant, snapshot.uid),
    )


async def restore_points(
    tx: Tx, collection: Collection, rows: Sequence[PointRow], seqs: Sequence[int]
) -> None:
    """Write points with the numbers that they had where they come from, before the first commit of
    a collection that the same transaction has made: so the files that they come from fit it. No
    number may be above the collection's first."""
    await tx.connection.execute(
        _RESTORE,
        {
            "tenant": collection.tenant,
            "uid": collection.uid,
            "ids": [row.id for row in rows],
            "seqs": list(seqs),
            "vectors": [pack_vector(row.vector) for row in rows],
            "texts": [row.text for row in rows],
            "payloads": [json.dumps(row.payload, ensure_ascii=False) for row in rows],
            "sentences": [pack_sentences(row.sentences) for row in rows],
            "tokens": [pack_tokens(row.token_vectors) for row in rows],
            "sparse": [pack_sparse(row.sparse_vector) for row in rows],
        },
    )


def _not_found(collection: Collection, snapshot_id: str) -> SnapshotNotFound:
    return SnapshotNotFound(
        f"collection {collection.id!r} has no snapshot {snapshot_id!r}; ListSnapshots names those "
        "it has",
        metadata={"collection": collection.id, "snapshot": snapshot_id},
    )
