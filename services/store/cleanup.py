"""What grows and may go. Each call does a bounded piece and says how much; call until 0.

All of them are for `Store.system`, may run on every node at once, and lose nothing when cut off.
"""

from __future__ import annotations

import uuid

from services.store.store import Tx

REQUESTS_KEPT_S = 48 * 3600.0
"""Twice the 24 hours that a repeated request_id is promised the first answer."""
JOBS_KEPT_S = 30 * 24 * 3600.0


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
