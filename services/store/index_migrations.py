"""A collection's migration to a second index: mirrored from its log, exchanged in one transaction.

The second index is a collection that no name leads to, with a log of its own. The mirror writes to
it, page by page, what the log of the source has, and in the same transaction how far it has come: a
mirror that dies anywhere goes on where it was. Only who holds the lease may write: a page of
somebody else's, or one that was read before another was written, is refused.

Why the exchange loses nothing: it holds the lock of the source's head, under which every write is
made, and looks once more whether anything is not mirrored. From then on the old log takes only what
the mirror writes, which runs the other way; so going back is the same exchange.

Why no watermark means something older afterwards: the log that takes over goes on above the one it
replaces, by so much that the old one, where the mirror still writes, cannot come there while some
node may still answer from it.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.errors import MigrationExists, MigrationNotFound, MigrationNotReady
from services.store import collections
from services.store.collections import Collection, CollectionSpec
from services.store.store import Tx

SEQ_STEP = 10_000
"""How far above the old log the new one goes on: more commits than a mirror makes in the seconds in
which nodes hear of the exchange."""

_INDEX = (
    "embedding_model",
    "fingerprint",
    "dimensions",
    "hnsw_m",
    "hnsw_ef_construction",
    "hnsw_ef_search",
    "vector_storage",
    "token_store",
    "beams",
)
"""What of a collection's row belongs to the index and is exchanged with it; all else stays with the
name."""

COLUMNS = (
    "tenant, home_uid, source_uid, target_uid, points_seq, points_id, tombstones_seq, "
    "tombstones_id, mirrored_seq, ready, flipped, problem, queries, overlap, recall_before, "
    "recall_after, lease_owner, create_time, update_time"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """What both indexes find of ten: `overlap` is the share that is the same, `recall` of each the
    share of what a scan finds."""

    queries: int
    overlap: float
    recall_before: float
    recall_after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """A row. `ready` once the second index had everything and was compared; `problem` says what
    keeps the mirror from going on."""

    tenant: str
    home_uid: uuid.UUID
    source_uid: uuid.UUID
    target_uid: uuid.UUID
    points_seq: int
    points_id: str
    tombstones_seq: int
    tombstones_id: str
    mirrored_seq: int
    ready: bool
    flipped: bool
    problem: str
    queries: int
    overlap: float
    recall_before: float
    recall_after: float
    lease_owner: str
    create_time: datetime
    update_time: datetime


@dataclass(frozen=True, slots=True)
class Indexes:
    """The collection as its name has it, and the hidden one."""

    source: Collection
    target: Collection


LEFT = (
    "FROM points WHERE tenant = %(tenant)s AND collection_uid = %(uid)s AND seq > 0 "
    "AND seq >= %(seq)s AND (seq > %(seq)s OR id > %(id)s)"
)
TOMBSTONES = (
    "SELECT seq, id FROM tombstones WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
    "AND seq > 0 AND seq >= %(seq)s AND (seq > %(seq)s OR id > %(id)s) "
    "ORDER BY seq, id LIMIT %(rows)s"
)
ROW = "tenant = %(tenant)s AND home_uid = %(home)s"


async def start(tx: Tx, collection_id: str, spec: CollectionSpec) -> Migration:
    """Make a second index of `spec`, empty, and a migration to it. Raises MigrationExists and
    CollectionNotFound."""
    source = await collections.hold_collection(tx, collection_id)
    if await _find(tx, source) is not None:
        raise MigrationExists(
            f"collection {collection_id!r} is being migrated; end that migration first",
            metadata={"collection": collection_id},
        )
    target = await collections.create_collection(tx, collections.hidden_id(source.id), spec)
    await tx.run(
        "UPDATE heads SET closed_until = 'infinity' WHERE tenant = %s AND collection_uid = %s",
        (target.tenant, target.uid),
    )
    made = await tx.one(
        Migration,
        # What was deleted before is in no page of points, so it need not be deleted.
        "INSERT INTO index_migrations (tenant, home_uid, source_uid, target_uid, tombstones_seq) "
        "SELECT h.tenant, %s, h.collection_uid, %s, h.seq + 1 FROM heads h "
        f"WHERE h.tenant = %s AND h.collection_uid = %s RETURNING {COLUMNS}",
        (source.home_uid, target.uid, source.tenant, source.uid),
    )
    assert made is not None
    return made


async def find_unembeddable(tx: Tx, collection: Collection) -> str | None:
    """The id of some point that has a vector and no text to make another of; None where none is."""
    row = await tx.row(
        "SELECT id FROM points WHERE tenant = %s AND collection_uid = %s "
        "AND text = '' AND vector IS NOT NULL AND passage_set_key IS NULL LIMIT 1",
        (collection.tenant, collection.uid),
    )
    return None if row is None else str(row[0])


async def get(tx: Tx, collection: Collection) -> Migration:
    """Raises MigrationNotFound."""
    found = await _find(tx, collection)
    if found is None:
        raise _not_found(collection.id)
    return found


async def indexes_of(tx: Tx, migration: Migration) -> Indexes | None:
    """Both indexes; None where they are gone or exchanged."""
    rows = await collections.collections_of(tx, [migration.source_uid, migration.target_uid])
    by_uid = {row.uid: row for row in rows if row.tenant == migration.tenant}
    source, target = by_uid.get(migration.source_uid), by_uid.get(migration.target_uid)
    if source is None or target is None or source.hidden or not target.hidden:
        return None
    return Indexes(source, target)


async def count_points(tx: Tx, migration: Migration) -> tuple[int, int]:
    """Points of the source, and those of them that are still to be mirrored."""
    key = {"tenant": migration.tenant, "uid": migration.source_uid}
    row = await tx.row(
        f"SELECT (SELECT count(*) FROM points WHERE tenant = %(tenant)s "
        f"AND collection_uid = %(uid)s), (SELECT count(*) {LEFT})",
        {**key, "seq": migration.points_seq, "id": migration.points_id},
    )
    assert row is not None
    return int(row[0]), int(row[1])


async def list_migrations(tx: Tx) -> list[Migration]:
    """Of every tenant; for `Store.system`."""
    return await tx.all(Migration, f"SELECT {COLUMNS} FROM index_migrations")


async def claim(
    tx: Tx, migration: Migration, owner: str, ttl_s: float, *, by_force: bool = False
) -> Migration | None:
    """Take or extend the lease; None where another has it, or the migration is over. `by_force`
    takes it from whoever has it: nothing that they have in their hands is written."""
    free = "true" if by_force else "(lease_owner = %(owner)s OR lease_until <= clock_timestamp())"
    return await tx.one(
        Migration,
        "UPDATE index_migrations SET lease_owner = %(owner)s, "
        "lease_until = clock_timestamp() + make_interval(secs => %(ttl_s)s) "
        f"WHERE {ROW} AND target_uid IN (%(source)s, %(target)s) AND {free} RETURNING {COLUMNS}",
        {**params_of(migration), "owner": owner, "ttl_s": ttl_s},
    )


async def release(tx: Tx, migration: Migration, owner: str) -> None:
    """Give the lease back; nothing happens where it is another's."""
    await tx.run(
        "UPDATE index_migrations SET lease_owner = '', lease_until = '-infinity' "
        f"WHERE {ROW} AND lease_owner = %(owner)s",
        {**params_of(migration), "owner": owner},
    )


async def say_problem(tx: Tx, migration: Migration, problem: str, owner: str) -> None:
    """Say what keeps the mirror from going on."""
    await tx.run(
        "UPDATE index_migrations SET problem = %(problem)s, update_time = clock_timestamp() "
        f"WHERE {ROW} AND lease_owner = %(owner)s AND problem <> %(problem)s",
        {**params_of(migration), "owner": owner, "problem": problem},
    )


async def say_ready(
    tx: Tx, migration: Migration, compared: Compared, owner: str
) -> Migration | None:
    """Say that the second index has everything, and how it compares."""
    return await tx.one(
        Migration,
        "UPDATE index_migrations SET ready = true, queries = %(queries)s, overlap = %(overlap)s, "
        "recall_before = %(before)s, recall_after = %(after)s, update_time = clock_timestamp() "
        f"WHERE {ROW} AND lease_owner = %(owner)s AND NOT flipped RETURNING {COLUMNS}",
        {
            **params_of(migration),
            "owner": owner,
            "queries": compared.queries,
            "overlap": compared.overlap,
            "before": compared.recall_before,
            "after": compared.recall_after,
        },
    )


async def close_source(tx: Tx, migration: Migration, seconds: float) -> None:
    """Let writes to the source wait for so long, or no longer with 0."""
    await tx.run(
        "UPDATE heads SET closed_until = CASE WHEN %(seconds)s > 0 "
        "THEN clock_timestamp() + make_interval(secs => %(seconds)s) ELSE '-infinity' END "
        "WHERE tenant = %(tenant)s AND collection_uid = %(source)s AND closed_until <> 'infinity'",
        {**params_of(migration), "seconds": seconds},
    )


async def flip(tx: Tx, collection_id: str, migration: Migration) -> Migration | None:
    """Exchange the two indexes under the name, and turn the mirror around: one commit of both logs.
    None, and nothing done, where the source has what the target has not, or was exchanged already.
    """
    source = await collections.hold_collection(tx, collection_id)
    present = await _find(tx, source, hold=True)
    if present is None or present.source_uid != migration.source_uid:
        return None
    pair = await indexes_of(tx, present)
    if pair is None:
        return None
    key = params_of(present)
    seqs = []
    for uid in (present.source_uid, present.target_uid):
        row = await tx.row(
            "SELECT seq FROM heads WHERE tenant = %s AND collection_uid = %s FOR NO KEY UPDATE",
            (present.tenant, uid),
        )
        if row is None:
            return None
        seqs.append(int(row[0]))
    if await tx.row(
        f"SELECT 1 {LEFT} LIMIT 1",
        {**key, "uid": present.source_uid, "seq": present.points_seq, "id": present.points_id},
    ) or await tx.rows(
        TOMBSTONES,
        {
            **key,
            "uid": present.source_uid,
            "seq": present.tombstones_seq,
            "id": present.tombstones_id,
            "rows": 1,
        },
    ):
        return None
    await _exchange(tx, pair)
    seq = max(seqs) + SEQ_STEP
    await tx.run(
        "WITH head AS (UPDATE heads SET seq = %(seq)s, change_id = gen_random_uuid(), "
        "  closed_until = '-infinity' WHERE tenant = %(tenant)s AND collection_uid = %(target)s "
        "  RETURNING change_id) "
        "INSERT INTO commits (tenant, collection_uid, seq, change_id, commit_time) "
        "SELECT %(tenant)s, %(target)s, %(seq)s, change_id, clock_timestamp() FROM head",
        {**key, "seq": seq},
    )
    await tx.run(
        "UPDATE heads SET closed_until = 'infinity' "
        "WHERE tenant = %(tenant)s AND collection_uid = %(source)s",
        key,
    )
    return await tx.one(
        Migration,
        "UPDATE index_migrations SET source_uid = %(target)s, target_uid = %(source)s, "
        "flipped = NOT flipped, points_seq = %(next)s, points_id = '', "
        "tombstones_seq = %(next)s, tombstones_id = '', mirrored_seq = %(seq)s, problem = '', "
        "lease_owner = '', lease_until = '-infinity', update_time = clock_timestamp() "
        f"WHERE {ROW} RETURNING {COLUMNS}",
        {**key, "seq": seq, "next": seq + 1},
    )


async def end(tx: Tx, collection_id: str) -> Collection:
    """Delete the index that the name does not lead to, and the migration; the index that went.
    Raises MigrationNotFound and CollectionNotFound."""
    source = await collections.hold_collection(tx, collection_id)
    present = await _find(tx, source, hold=True)
    pair = None if present is None else await indexes_of(tx, present)
    if present is None or pair is None:
        raise _not_found(collection_id)
    await tx.run(f"DELETE FROM index_migrations WHERE {ROW}", params_of(present))
    await collections.drop_index(tx, pair.target)
    return pair.target


async def _find(tx: Tx, collection: Collection, *, hold: bool = False) -> Migration | None:
    return await tx.one(
        Migration,
        f"SELECT {COLUMNS} FROM index_migrations WHERE tenant = %s AND home_uid = %s"
        f"{' FOR UPDATE' if hold else ''}",
        (collection.tenant, collection.home_uid),
    )


async def _exchange(tx: Tx, pair: Indexes) -> None:
    """Exchange uid and settings of two rows; ids, and who belongs to them, stay."""
    rows = ((pair.target, uuid.uuid4()), (pair.source, pair.target.uid))
    sets = ", ".join(f"{name} = %({name})s" for name in _INDEX)
    for row, uid in rows:
        await tx.run(
            f"UPDATE collections SET uid = %(uid)s, {sets}, update_time = now() "
            "WHERE tenant = %(tenant)s AND id = %(id)s",
            {
                **{name: getattr(pair.target, name) for name in _INDEX},
                "uid": uid,
                "tenant": row.tenant,
                "id": row.id,
            },
        )
    await tx.run(
        f"UPDATE collections SET uid = %(uid)s, {sets}, update_time = now() "
        "WHERE tenant = %(tenant)s AND id = %(id)s",
        {
            **{name: getattr(pair.source, name) for name in _INDEX},
            "uid": pair.source.uid,
            "tenant": pair.target.tenant,
            "id": pair.target.id,
        },
    )


def params_of(migration: Migration) -> dict[str, Any]:
    """What statements about a migration name it and its place by."""
    return {
        "tenant": migration.tenant,
        "home": migration.home_uid,
        "source": migration.source_uid,
        "target": migration.target_uid,
        "points_seq": migration.points_seq,
        "points_id": migration.points_id,
        "tombstones_seq": migration.tombstones_seq,
        "tombstones_id": migration.tombstones_id,
    }


def _not_found(collection_id: str) -> MigrationNotFound:
    return MigrationNotFound(
        f"collection {collection_id!r} is not being migrated; StartMigration begins it",
        metadata={"collection": collection_id},
    )


def not_ready(collection_id: str, why: str) -> MigrationNotReady:
    """The error that says why indexes cannot be exchanged."""
    return MigrationNotReady(
        f"the indexes of collection {collection_id!r} are not exchanged: {why}",
        metadata={"collection": collection_id, "problem": why},
    )
