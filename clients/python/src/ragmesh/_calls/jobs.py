"""Calls of the document service about ingest jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from ragmesh import _rpcs as rpcs
from ragmesh._convert import documents as convert
from ragmesh._errors import Cancelled, Internal
from ragmesh._names import collection_of, optional, resource
from ragmesh._plan import Pages, Plan, Source, paged, send
from ragmesh._session import Session
from ragmesh._types import documents as types
from ragmesh._values import to_enum
from ragmesh.api.documents.v1 import document_service_pb2 as pb
from ragmesh.api.documents.v1 import ingest_job_pb2

WATCH_TIMEOUT_S = 600.0


def get_ingest_job(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.IngestJob]:
    """Returns one ingest job; raises IngestJobNotFound."""
    request = pb.GetIngestJobRequest(name=resource("ingestJobs", name, "name"))
    response = yield from send(session, rpcs.GET_INGEST_JOB, request, timeout_s=timeout_s)
    return _noted(session, response.ingest_job)


def list_ingest_jobs(
    session: Session,
    *,
    collection: str = "",
    state: Literal["", "queued", "running", "succeeded", "failed", "cancelled"] = "",
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.IngestJob]:
    """Lists ingest jobs, the newest first: those of one collection or state if given."""
    return paged(
        session,
        rpcs.LIST_INGEST_JOBS,
        pb.ListIngestJobsRequest(
            page_size=page_size,
            collection=optional("collections", collection, "collection"),
            state=to_enum(ingest_job_pb2.IngestJob.State.DESCRIPTOR, state, "state"),
        ),
        lambda response: map(convert.ingest_job, response.ingest_jobs),
        timeout_s=timeout_s,
    )


def cancel_ingest_job(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.IngestJob]:
    """Ends a job that waits or runs; nothing of it is ever visible.

    A document that was searchable stays as it was, one that was not is `failed`. Returns the job;
    one that was cancelled before too. Raises IngestJobNotFound, or IngestJobFinished where it
    succeeded or failed before.
    """
    request = pb.CancelIngestJobRequest(name=resource("ingestJobs", name, "name"))
    response = yield from send(session, rpcs.CANCEL_INGEST_JOB, request, timeout_s=timeout_s)
    return _noted(session, response.ingest_job)


def retry_ingest_job(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.IngestJob]:
    """Starts a job that failed or was cancelled once more; what it had finished is not done again.

    Returns the job, also one that waits (it starts now) or runs. Raises IngestJobNotFound,
    DocumentNotFound, QueueFull, or IngestJobFinished where it succeeded or its document has a
    later job.
    """
    request = pb.RetryIngestJobRequest(name=resource("ingestJobs", name, "name"))
    response = yield from send(session, rpcs.RETRY_INGEST_JOB, request, timeout_s=timeout_s)
    return _noted(session, response.ingest_job)


def watch_ingest_job(
    session: Session, name: str, *, timeout_s: float | None = WATCH_TIMEOUT_S
) -> Source[types.IngestJob]:
    """Gives the job now and after every change; ends after its final state.

    A watch that is cut goes on by itself until `timeout_s` is over. Raises IngestJobNotFound.
    """
    return Source(
        session,
        rpcs.WATCH_INGEST_JOB,
        pb.WatchIngestJobRequest(name=resource("ingestJobs", name, "name")),
        read=lambda response: _noted(session, response.ingest_job),
        is_last=lambda job: job.done,
        resumable=True,
        timeout_s=timeout_s,
    )


def wait_for_ingest_job(
    session: Session,
    name: str,
    *,
    on_progress: Callable[[types.IngestJob], object] | None = None,
    timeout_s: float | None = WATCH_TIMEOUT_S,
) -> Plan[types.IngestJob]:
    """Returns the job when its document is searchable; this client's searches then find it.

    `on_progress` is called with every change. Raises the job's own error if it failed (such as
    DocumentUnreadable), Cancelled if it was cancelled or its document deleted, DeadlineExceeded
    if `timeout_s` is over (the job goes on), IngestJobNotFound.
    """
    source = watch_ingest_job(session, name, timeout_s=timeout_s)
    last: types.IngestJob | None = None
    try:
        while (job := (yield from source.advance())) is not None:
            last = job
            if on_progress is not None:
                on_progress(job)
    finally:
        source.cancel()
    # A stream ends without an error only after a final state.
    assert last is not None
    if last.state == "failed":
        error = last.error or Internal(f"{last.name} failed and does not say why.")
        error.metadata.setdefault("ingest_job", last.name)
        raise error
    if last.state == "cancelled":
        raise Cancelled(
            f"{last.name} was cancelled, or {last.document} was deleted or replaced meanwhile.",
            metadata={"ingest_job": last.name, "document": last.document},
        )
    return last


def _noted(session: Session, message: ingest_job_pb2.IngestJob) -> types.IngestJob:
    """The job; a commit it names is one that reads should see."""
    session.remember(collection_of(message.document), message.watermark)
    return convert.ingest_job(message)
