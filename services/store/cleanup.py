"""What grows and may go. Each call does a bounded piece and says how much; call until 0.

All of them are for `Store.system`, may run on every node at once, and lose nothing when cut off.

An object goes in three steps, each a transaction or nothing: no row names it and it is condemned;
it is deleted; it is condemned no more. Until the last one nobody adopts a segment
(`segments.publish`), so that a file that is put again while its older self is being deleted is
never the one that is named. A document's file is pardoned by whoever names it
(`contents.name_content`), which waits for a deletion that has begun.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from services.store.segments import NAMES_LOCK
from services.store.store import Tx

REQUESTS_KEPT_S = 48 * 3600.0
"""Twice the 24 hours that a repeated request_id is promised the first answer."""
JOBS_KEPT_S = 30 * 24 * 3600.0
FILES_LOCK = 0x7261676D65736669
"""The advisory lock of what names files of documents: shared to name, exclusive to condemn."""
SEGMENTS_KEPT_S = 15 * 60.0
"""A retired segment stays for nodes that read of it before and fetch it now."""


@dataclass(frozen=True, slots=True)
class ObjectKind:
    """What is kept in one object store: the table of what is condemned, the advisory lock of who
    names objects, and the tables and columns that name them."""

    condemned: str
    lock: int
    named_by: tuple[tuple[str, str], ...]


SEGMENT_FILES = ObjectKind(
    "condemned_objects", NAMES_LOCK, (("segments", "sha256"), ("snapshot_objects", "sha256"))
)
DOCUMENT_FILES = ObjectKind("condemned_files", FILES_LOCK, (("contents", "object"),))


async def purge_points(tx: Tx, *, rows_max: int = 5000) -> int:
    """Remove points and tombstones of deleted collections."""
    row = await tx.row(
        "SELECT tenant, collection_uid FROM deleted_collections "
        "ORDER BY delete_time LIMIT 1 FOR UPDATE SKIP LOCKED"
    )
    if row is None:
        return 0
    removed = 0
    for table in ("points", "tombstones"):
        removed += await tx.run(
            f"DELETE FROM {table} WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
            f"AND id IN (SELECT id FROM {table} WHERE tenant = %(tenant)s "
            "AND collection_uid = %(uid)s ORDER BY id LIMIT %(rows)s)",
            {"tenant": row[0], "uid": row[1], "rows": rows_max - removed},
        )
    if removed < rows_max:
        removed += await tx.run(
            "DELETE FROM deleted_collections WHERE tenant = %s AND collection_uid = %s", row
        )
    return removed


async def purge_requests(tx: Tx, *, kept_s: float = REQUESTS_KEPT_S, rows_max: int = 5000) -> int:
    """Forget request ids older than `kept_s`."""
    return await tx.run(
        "DELETE FROM requests WHERE (tenant, request_id) IN ("
        "  SELECT tenant, request_id FROM requests "
        "  WHERE create_time < now() - make_interval(secs => %s) "
        "  ORDER BY create_time LIMIT %s FOR UPDATE SKIP LOCKED)",
        (kept_s, rows_max),
    )


async def purge_jobs(tx: Tx, *, kept_s: float = JOBS_KEPT_S, rows_max: int = 5000) -> int:
    """Forget jobs that finished longer than `kept_s` ago, but the one a document names."""
    return await tx.run(
        "DELETE FROM ingest_jobs WHERE (tenant, id) IN ("
        "  SELECT j.tenant, j.id FROM ingest_jobs j "
        "  WHERE j.finish_time < now() - make_interval(secs => %s) AND NOT EXISTS ("
        "    SELECT FROM documents d WHERE d.tenant = j.tenant "
        "    AND d.collection_uid = j.collection_uid AND d.id = j.document_id "
        "    AND d.ingest_job = j.id) LIMIT %s FOR UPDATE SKIP LOCKED)",
        (kept_s, rows_max),
    )


async def trim_log(tx: Tx, tenant: str, collection_uid: uuid.UUID, floor: int) -> int:
    """Forget commits below `floor` and tombstones up to it; the tombstones removed.

    An index that stands lower has to start anew. `floor` beyond the head means the head.
    """
    key = {"tenant": tenant, "uid": collection_uid, "floor": floor}
    row = await tx.row(
        "UPDATE heads SET floor = greatest(floor, least(%(floor)s, seq)) "
        "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s RETURNING floor",
        key,
    )
    if row is None:
        return 0
    key["floor"] = row[0]
    where = "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s AND seq"
    await tx.run(f"DELETE FROM commits {where} < %(floor)s", key)
    return await tx.run(f"DELETE FROM tombstones {where} <= %(floor)s", key)


async def purge_segments(tx: Tx, *, kept_s: float = SEGMENTS_KEPT_S, rows_max: int = 500) -> int:
    """Forget segments that were retired longer than `kept_s` ago, and those of deleted
    collections, and condemn the objects that no segment names any more."""
    await _lock_names(tx)
    gone = await tx.rows(
        "DELETE FROM segments WHERE (tenant, collection_uid, sha256) IN ("
        "  SELECT s.tenant, s.collection_uid, s.sha256 FROM segments s "
        "  WHERE s.retire_time < now() - make_interval(secs => %s) OR NOT EXISTS ("
        "    SELECT FROM heads h WHERE h.tenant = s.tenant "
        "    AND h.collection_uid = s.collection_uid) LIMIT %s) RETURNING sha256",
        (kept_s, rows_max),
    )
    await condemn_objects(tx, [row[0] for row in gone])
    return len(gone)


async def purge_snapshots(tx: Tx, *, rows_max: int = 500) -> int:
    """Forget what deleted snapshots needed, and condemn the objects that nothing names any more."""
    await _lock_names(tx)
    gone = await tx.rows(
        "DELETE FROM snapshot_objects WHERE (tenant, snapshot_uid, sha256) IN ("
        "  SELECT o.tenant, o.snapshot_uid, o.sha256 FROM snapshot_objects o WHERE NOT EXISTS ("
        "    SELECT FROM snapshots s WHERE s.tenant = o.tenant AND s.uid = o.snapshot_uid) "
        "  LIMIT %s) RETURNING sha256",
        (rows_max,),
    )
    await condemn_objects(tx, [row[0] for row in gone])
    return len(gone)


async def purge_builds(tx: Tx, *, rows_max: int = 5000) -> int:
    """Forget leases that ran out."""
    return await tx.run(
        "DELETE FROM builds WHERE (tenant, collection_uid, work) IN ("
        "  SELECT tenant, collection_uid, work FROM builds WHERE until < clock_timestamp() "
        "  LIMIT %s FOR UPDATE SKIP LOCKED)",
        (rows_max,),
    )


async def condemn_objects(tx: Tx, names: Sequence[bytes], kind: ObjectKind = SEGMENT_FILES) -> int:
    """Condemn those of `names` that no row names; how many. For objects whose age says that
    whoever put them did not live to name them."""
    if not names:
        return 0
    await _lock_names(tx, kind)
    unnamed = " AND ".join(
        f"NOT EXISTS (SELECT FROM {table} t WHERE t.{column} = name)"
        for table, column in kind.named_by
    )
    return await tx.run(
        f"INSERT INTO {kind.condemned} (sha256) "
        f"SELECT name FROM unnest(%s::bytea[]) AS given (name) WHERE {unnamed} "
        "ON CONFLICT DO NOTHING",
        (list(names),),
    )


async def take_condemned(
    tx: Tx, kind: ObjectKind = SEGMENT_FILES, *, rows_max: int = 50
) -> list[bytes]:
    """Condemned objects that nobody else deletes now. They are this transaction's: delete them in
    the object store, then `pardon_objects`, then commit."""
    rows = await tx.rows(
        f"SELECT sha256 FROM {kind.condemned} ORDER BY sha256 LIMIT %s FOR UPDATE SKIP LOCKED",
        (rows_max,),
    )
    return [row[0] for row in rows]


async def pardon_objects(tx: Tx, names: Sequence[bytes], kind: ObjectKind = SEGMENT_FILES) -> None:
    """Say that condemned objects are deleted: a file of that name may be put and named again."""
    await tx.run(f"DELETE FROM {kind.condemned} WHERE sha256 = ANY(%s)", (list(names),))


async def _lock_names(tx: Tx, kind: ObjectKind = SEGMENT_FILES) -> None:
    await tx.rows("SELECT pg_advisory_xact_lock(%s)", (kind.lock,))
