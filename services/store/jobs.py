"""Ingest jobs: a queue whose truth is rows. A worker holds a job by a lease that it extends.

A worker that lost its lease can write nothing: every change names the owner and the attempt.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypeAlias

from engine.errors import FailedPrecondition, IngestJobNotFound
from engine.types import JsonValue
from services.store.store import Tx

JobState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "cancelled"]
JobStage: TypeAlias = Literal["", "parse", "chunk", "embed", "publish"]

_COLUMNS = (
    "tenant, id, collection_uid, collection_id, document_id, state, stage, passages_done, "
    "passages_total, error, attempts, lease_owner, lease_until, create_time, update_time, "
    "finish_time, watermark, bulk"
)
BULK_WAIT_S = 600.0
"""A bulk job that waited for so long is no longer put behind those that people wait for."""

_CLAIM_LOCK = 0x7261676D65736A6F
# A job whose worker died waits, each time twice as long: others get their turn, and a document that
# kills its node does so seldom.
_FREE = """lease_until + make_interval(secs => CASE WHEN state = 'running'
        THEN least(60.0, 0.25 * 2.0 ^ least(attempts, 10)) ELSE 0.0 END) <= clock_timestamp()"""
# The tenants are found by steps through the index, not by reading all that waits. Of each, the
# oldest job of either kind is looked at.
_CLAIM = f"""
WITH RECURSIVE waiting (tenant) AS (
    (SELECT tenant FROM ingest_jobs WHERE state IN ('queued', 'running')
        ORDER BY tenant LIMIT 1)
    UNION ALL
    SELECT (SELECT j.tenant FROM ingest_jobs j
        WHERE j.state IN ('queued', 'running') AND j.tenant > w.tenant
        ORDER BY j.tenant LIMIT 1)
    FROM waiting w WHERE w.tenant IS NOT NULL
), next AS (
    SELECT j.tenant, j.id
    FROM waiting w CROSS JOIN (VALUES (false), (true)) AS kind (bulk)
    CROSS JOIN LATERAL (
        SELECT tenant, id, create_time FROM ingest_jobs
        WHERE tenant = w.tenant AND bulk = kind.bulk AND state IN ('queued', 'running')
            AND {_FREE}
        ORDER BY create_time LIMIT 1
    ) j LEFT JOIN ingest_turns t ON t.tenant = j.tenant
    ORDER BY kind.bulk
        AND j.create_time > clock_timestamp() - make_interval(secs => %(bulk_wait_s)s),
        t.last_time NULLS FIRST, j.create_time
    LIMIT 1
), turn AS (
    INSERT INTO ingest_turns (tenant, last_time) SELECT tenant, clock_timestamp() FROM next
    ON CONFLICT (tenant) DO UPDATE SET last_time = excluded.last_time
)
UPDATE ingest_jobs j SET state = 'running', attempts = attempts + 1,
    lease_owner = %(owner)s::text || '/' || gen_random_uuid(),
    update_time = clock_timestamp(), passages_done = 0,
    lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM next n WHERE j.tenant = n.tenant AND j.id = n.id AND j.state IN ('queued', 'running')
    AND j.lease_until <= clock_timestamp()
RETURNING {", ".join(f"j.{column}" for column in _COLUMNS.split(", "))}
"""
_MINE = (
    "tenant = %(tenant)s AND id = %(id)s AND state = 'running' "
    "AND lease_owner = %(owner)s AND attempts = %(attempts)s"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestJob:
    """A row. `error` is what the service put there; `watermark` the commit that published it.
    `bulk` is what nobody waits for."""

    tenant: str
    id: str
    collection_uid: uuid.UUID
    collection_id: str
    document_id: str
    state: JobState
    stage: JobStage
    passages_done: int
    passages_total: int
    error: Mapping[str, JsonValue] | None
    attempts: int
    lease_owner: str
    lease_until: datetime
    create_time: datetime
    update_time: datetime
    finish_time: datetime | None
    watermark: int | None
    bulk: bool

    @property
    def finished(self) -> bool:
        """Whether it will not change any more."""
        return self.state in ("succeeded", "failed", "cancelled")


async def create_job(
    tx: Tx,
    collection_uid: uuid.UUID,
    collection_id: str,
    document_id: str,
    job_id: str,
    *,
    bulk: bool = False,
) -> IngestJob:
    """Queue a document. `job_id` is new."""
    job = await tx.one(
        IngestJob,
        "INSERT INTO ingest_jobs (tenant, id, collection_uid, collection_id, document_id, bulk, "
        f"state, stage) VALUES (%s, %s, %s, %s, %s, %s, 'queued', '') RETURNING {_COLUMNS}",
        (tx.tenant, job_id, collection_uid, collection_id, document_id, bulk),
    )
    assert job is not None
    return job


async def get_job(tx: Tx, job_id: str) -> IngestJob:
    """Raises IngestJobNotFound."""
    job = await tx.one(
        IngestJob,
        f"SELECT {_COLUMNS} FROM ingest_jobs WHERE tenant = %s AND id = %s",
        (tx.tenant, job_id),
    )
    if job is None:
        raise IngestJobNotFound(
            f"ingest job {job_id!r} does not exist", metadata={"ingest_job": job_id}
        )
    return job


async def list_jobs(
    tx: Tx,
    *,
    collection_uid: uuid.UUID | None = None,
    state: JobState | None = None,
    before: tuple[datetime, str] | None = None,
    limit: int = 1000,
) -> list[IngestJob]:
    """The newest first; the next page is `before` the last one's `create_time` and `id`."""
    where = ["tenant = %(tenant)s"]
    if collection_uid is not None:
        where.append("collection_uid = %(uid)s")
    if state is not None:
        where.append("state = %(state)s")
    if before is not None:
        where.append("(create_time, id) < (%(time)s, %(id)s)")
    time, job_id = before or (None, None)
    return await tx.all(
        IngestJob,
        f"SELECT {_COLUMNS} FROM ingest_jobs WHERE {' AND '.join(where)} "
        "ORDER BY create_time DESC, id DESC LIMIT %(limit)s",
        {
            "tenant": tx.tenant,
            "uid": collection_uid,
            "state": state,
            "time": time,
            "id": job_id,
            "limit": limit,
        },
    )


async def count_waiting(tx: Tx) -> int:
    """Jobs that are queued or running, of what the transaction sees: for admission."""
    row = await tx.row("SELECT count(*) FROM ingest_jobs WHERE state IN ('queued', 'running')")
    return int(row[0]) if row else 0


async def claim_jobs(tx: Tx, owner: str, *, lease_s: float, limit: int) -> list[IngestJob]:
    """Take up to `limit` jobs: queued ones, and those whose lease ran out. `attempts` counts this
    start.

    What a person waits for goes before bulk, unless that has waited for BULK_WAIT_S; then tenants
    take turns, the one that was served longest ago first; then the oldest. For `Store.system`.

    Each start has a `lease_owner` of its own, since a retry that is asked for counts attempts anew.
    """
    # One claim at a time, on all nodes: each turn is seen by the next.
    await tx.rows("SELECT pg_advisory_xact_lock(%s)", (_CLAIM_LOCK,))
    claimed: list[IngestJob] = []
    for _ in range(limit):
        job = await tx.one(
            IngestJob,
            _CLAIM,
            {"owner": owner, "lease_s": lease_s, "bulk_wait_s": BULK_WAIT_S},
        )
        if job is None:
            break
        claimed.append(job)
    return claimed


async def claim_job(tx: Tx, job_id: str, owner: str, *, lease_s: float) -> IngestJob | None:
    """Take one job that is queued or whose lease ran out; None where it is not to be had, or not
    any more. An owner that has it gets it again."""
    return await tx.one(
        IngestJob,
        "UPDATE ingest_jobs SET state = 'running', "
        "attempts = attempts + CASE WHEN lease_owner = %(owner)s THEN 0 ELSE 1 END, "
        "lease_owner = %(owner)s, update_time = clock_timestamp(), "
        "lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s) "
        "WHERE tenant = %(tenant)s AND id = %(id)s AND state IN ('queued', 'running') "
        f"AND (lease_until <= clock_timestamp() OR lease_owner = %(owner)s) RETURNING {_COLUMNS}",
        {"tenant": tx.tenant, "id": job_id, "owner": owner, "lease_s": lease_s},
    )


async def extend_leases(tx: Tx, owner: str, *, lease_s: float) -> int:
    """Extend the leases of all running jobs of an owner; how many. For `Store.system`."""
    return await tx.run(
        "UPDATE ingest_jobs SET "
        "lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s) "
        "WHERE state = 'running' AND lease_owner = %(owner)s",
        {"owner": owner, "lease_s": lease_s},
    )


async def release_jobs(tx: Tx, owner: str) -> int:
    """Queue all running jobs of an owner again; how many. For `Store.system`."""
    return await tx.run(
        "UPDATE ingest_jobs SET state = 'queued', stage = '', lease_owner = '', "
        "update_time = clock_timestamp(), lease_until = clock_timestamp() "
        "WHERE state = 'running' AND lease_owner = %s",
        (owner,),
    )


async def waiting_ids(tx: Tx, collection_uid: uuid.UUID) -> list[str]:
    """Jobs of a collection that nobody works on, the oldest first."""
    rows = await tx.rows(
        "SELECT id FROM ingest_jobs WHERE tenant = %s AND collection_uid = %s "
        "AND state IN ('queued', 'running') AND lease_until <= clock_timestamp() "
        "ORDER BY create_time",
        (tx.tenant, collection_uid),
    )
    return [row[0] for row in rows]


async def advance_job(
    tx: Tx, job: IngestJob, stage: JobStage, *, done: int = 0, total: int = 0, lease_s: float
) -> bool:
    """Say how far a job is, and extend its lease. False where it is not ours any more: stop."""
    return bool(
        await tx.run(
            "UPDATE ingest_jobs SET stage = %(stage)s, passages_done = %(done)s, "
            "passages_total = %(total)s, update_time = clock_timestamp(), "
            "lease_until = clock_timestamp() + make_interval(secs => %(lease_s)s) "
            f"WHERE {_MINE}",
            {**_held(job), "stage": stage, "done": done, "total": total, "lease_s": lease_s},
        )
    )


async def requeue_job(tx: Tx, job: IngestJob, *, delay_s: float) -> bool:
    """Give a job back, to be taken again after `delay_s`. False where it is not ours any more."""
    return bool(
        await tx.run(
            "UPDATE ingest_jobs SET state = 'queued', stage = '', lease_owner = '', "
            "update_time = clock_timestamp(), "
            "lease_until = clock_timestamp() + make_interval(secs => %(delay_s)s) "
            f"WHERE {_MINE}",
            {**_held(job), "delay_s": delay_s},
        )
    )


async def fail_job(tx: Tx, job: IngestJob, error: Mapping[str, JsonValue]) -> bool:
    """End a job with why. False where it is not ours any more."""
    return bool(
        await tx.run(
            "UPDATE ingest_jobs SET state = 'failed', error = %(error)s::json, lease_owner = '', "
            "update_time = clock_timestamp(), finish_time = clock_timestamp() "
            f"WHERE {_MINE}",
            {**_held(job), "error": json.dumps(error)},
        )
    )


async def hold_job(tx: Tx, job: IngestJob) -> None:
    """Lock a job's row until the commit. Raises FailedPrecondition where it is not ours."""
    row = await tx.row(f"SELECT 1 FROM ingest_jobs WHERE {_MINE} FOR UPDATE", _held(job))
    if row is None:
        raise FailedPrecondition(
            f"ingest job {job.id!r} was given to another worker or cancelled",
            metadata={"ingest_job": job.id},
        )


async def succeed_job(tx: Tx, job: IngestJob, passages: int, seq: int) -> None:
    """End a job that `hold_job` holds; `seq` is the commit that made the document searchable."""
    await tx.run(
        "UPDATE ingest_jobs SET state = 'succeeded', stage = 'publish', lease_owner = '', "
        "passages_done = %(passages)s, passages_total = %(passages)s, watermark = %(seq)s, "
        "update_time = clock_timestamp(), finish_time = clock_timestamp() "
        f"WHERE {_MINE}",
        {**_held(job), "passages": passages, "seq": seq},
    )


async def cancel_job(tx: Tx, job_id: str) -> IngestJob | None:
    """End a job that waits or runs; None where it does neither."""
    return await tx.one(
        IngestJob,
        "UPDATE ingest_jobs SET state = 'cancelled', lease_owner = '', "
        "update_time = clock_timestamp(), finish_time = clock_timestamp() "
        f"WHERE tenant = %s AND id = %s AND state IN ('queued', 'running') RETURNING {_COLUMNS}",
        (tx.tenant, job_id),
    )


async def renew_job(tx: Tx, job_id: str) -> IngestJob | None:
    """Queue a job that failed or was cancelled as if it were new; None where it did neither."""
    return await tx.one(
        IngestJob,
        "UPDATE ingest_jobs SET state = 'queued', stage = '', attempts = 0, error = NULL, "
        "passages_done = 0, passages_total = 0, lease_until = clock_timestamp(), "
        "update_time = clock_timestamp(), finish_time = NULL "
        f"WHERE tenant = %s AND id = %s AND state IN ('failed', 'cancelled') RETURNING {_COLUMNS}",
        (tx.tenant, job_id),
    )


async def hasten_job(tx: Tx, job_id: str) -> IngestJob | None:
    """Let a queued job start now, however long it was to wait; None where it is not queued."""
    return await tx.one(
        IngestJob,
        "UPDATE ingest_jobs SET lease_until = least(lease_until, clock_timestamp()), "
        "update_time = clock_timestamp() "
        f"WHERE tenant = %s AND id = %s AND state = 'queued' RETURNING {_COLUMNS}",
        (tx.tenant, job_id),
    )


async def cancel_jobs(tx: Tx, collection_uid: uuid.UUID, document_id: str | None = None) -> None:
    """Cancel what is unfinished of a document, or of the whole collection."""
    await tx.run(
        "UPDATE ingest_jobs SET state = 'cancelled', lease_owner = '', "
        "update_time = clock_timestamp(), finish_time = clock_timestamp() "
        "WHERE tenant = %(tenant)s AND collection_uid = %(uid)s "
        "AND document_id = coalesce(%(document)s, document_id) "
        "AND state IN ('queued', 'running')",
        {"tenant": tx.tenant, "uid": collection_uid, "document": document_id},
    )


def _held(job: IngestJob) -> dict[str, object]:
    return {
        "tenant": job.tenant,
        "id": job.id,
        "owner": job.lease_owner,
        "attempts": job.attempts,
    }
