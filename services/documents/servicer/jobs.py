"""Ingest jobs: shown, listed, watched, cancelled, tried again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime

from ragmesh.api.documents.v1 import document_service_pb2 as pb

from services.documents import convert
from services.documents.servicer.base import Handlers
from services.rpc import names, paging
from services.rpc.call import Call
from services.store import collections, ingestions, jobs
from services.store.collections import Collection
from services.store.jobs import IngestJob
from services.store.store import Tx

WATCH_POLL_S = 0.5
"""How often a watched job is looked at that another node works on; this node's own tell."""


class JobHandlers(Handlers):
    """Handlers about ingest jobs."""

    async def GetIngestJob(
        self, request: pb.GetIngestJobRequest, call: Call
    ) -> pb.GetIngestJobResponse:
        """Returns one job."""
        row = await self._job(request.name, call)
        return pb.GetIngestJobResponse(ingest_job=convert.job_message(row))

    async def ListIngestJobs(
        self, request: pb.ListIngestJobsRequest, call: Call
    ) -> pb.ListIngestJobsResponse:
        """Lists jobs, the newest first."""
        size = paging.page_size(request.page_size)
        listing = f"ingestJobs/{request.collection}/{request.state}"
        token = paging.read_token(listing, request.page_token)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection: Collection | None = None
            if request.collection:
                collection_id = names.collection_id(request.collection, "collection")
                collection = await collections.get_collection(tx, collection_id)
            found = await jobs.list_jobs(
                tx,
                collection_uid=collection.home_uid if collection else None,
                state=convert.JOB_STATES.get(request.state),
                before=_read_job_key(token),
                limit=size + 1,
            )
        response = pb.ListIngestJobsResponse(
            ingest_jobs=[convert.job_message(r) for r in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1]
            key = f"{last.create_time.isoformat()} {last.id}"
            response.next_page_token = paging.write_token(listing, key)
        return response

    async def CancelIngestJob(
        self, request: pb.CancelIngestJobRequest, call: Call
    ) -> pb.CancelIngestJobResponse:
        """Ends a job that waits or runs; its worker's next heartbeat finds that."""
        job_id = _job_id(request.name)

        async def work(tx: Tx) -> IngestJob:
            return await ingestions.cancel_ingestion(tx, job_id)

        row = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        return pb.CancelIngestJobResponse(ingest_job=convert.job_message(row))

    async def RetryIngestJob(
        self, request: pb.RetryIngestJobRequest, call: Call
    ) -> pb.RetryIngestJobResponse:
        """Queues a job that failed or was cancelled once more."""
        job_id = _job_id(request.name)

        async def work(tx: Tx) -> IngestJob:
            if (await jobs.get_job(tx, job_id)).finished:
                await self._admission.require_room(tx)
            return await ingestions.retry_ingestion(tx, job_id)

        row = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        self._pipeline.nudge()
        return pb.RetryIngestJobResponse(ingest_job=convert.job_message(row))

    async def WatchIngestJob(
        self, request: pb.WatchIngestJobRequest, call: Call
    ) -> AsyncIterator[pb.WatchIngestJobResponse]:
        """Sends the job now and after every change, until it is finished."""
        seen: IngestJob | None = None
        while True:
            row = await self._job(request.name, call)
            if row != seen:
                yield pb.WatchIngestJobResponse(ingest_job=convert.job_message(row))
                seen = row
            if row.finished:
                return
            await self._pipeline.moved(row.id, WATCH_POLL_S)

    async def _job(self, name: str, call: Call) -> IngestJob:
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            return await jobs.get_job(tx, _job_id(name))


def _job_id(name: str) -> str:
    return names.parse(name, "ingestJobs/*", "name")[0]


def _read_job_key(token: str | None) -> tuple[datetime, str] | None:
    if token is None:
        return None
    time, _, job_id = token.partition(" ")
    return datetime.fromisoformat(time), job_id
