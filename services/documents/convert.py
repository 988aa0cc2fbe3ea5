"""Between the contract's messages and the store's rows."""

from __future__ import annotations

from collections.abc import Mapping

import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import error_details_pb2, status_pb2
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.embedding.v1 import vector_pb2

from engine.documents.places import Place
from engine.errors import RagmeshError
from engine.types import JsonValue, Span
from services.errors import DOMAIN, row_of
from services.rpc import names
from services.rpc.values import payload_message, timestamp
from services.store.documents import Document, DocumentState
from services.store.jobs import IngestJob, JobStage, JobState
from services.store.passages import PassageRow

_Document = document_pb2.Document
_Job = ingest_job_pb2.IngestJob

_DOCUMENT_STATES: Mapping[DocumentState, document_pb2.Document.State.ValueType] = {
    "ingesting": _Document.STATE_INGESTING,
    "active": _Document.STATE_ACTIVE,
    "failed": _Document.STATE_FAILED,
}
_JOB_STATES: Mapping[JobState, ingest_job_pb2.IngestJob.State.ValueType] = {
    "queued": _Job.STATE_QUEUED,
    "running": _Job.STATE_RUNNING,
    "succeeded": _Job.STATE_SUCCEEDED,
    "failed": _Job.STATE_FAILED,
    "cancelled": _Job.STATE_CANCELLED,
}
DOCUMENT_STATES: Mapping[int, DocumentState] = {
    number: state for state, number in _DOCUMENT_STATES.items()
}
JOB_STATES: Mapping[int, JobState] = {number: state for state, number in _JOB_STATES.items()}
_STAGES: Mapping[JobStage, ingest_job_pb2.IngestJob.Stage.ValueType] = {
    "": _Job.STAGE_UNSPECIFIED,
    "parse": _Job.STAGE_PARSE,
    "chunk": _Job.STAGE_CHUNK,
    "embed": _Job.STAGE_EMBED,
    "publish": _Job.STAGE_PUBLISH,
}


def document_message(row: Document, collection_id: str) -> document_pb2.Document:
    """A document."""
    return document_pb2.Document(
        name=names.document_name(collection_id, row.id),
        display_name=row.display_name,
        media_type=row.media_type,
        source_uri=row.source_uri,
        payload=payload_message(row.payload),
        state=_DOCUMENT_STATES[row.state],
        size_bytes=row.size_bytes,
        content_sha256=row.content_sha256.hex(),
        text_characters=row.text_characters,
        passages=row.passages,
        title=row.title,
        ingest_job=f"ingestJobs/{row.ingest_job}",
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
    )


def job_message(row: IngestJob) -> ingest_job_pb2.IngestJob:
    """An ingest job."""
    return ingest_job_pb2.IngestJob(
        name=f"ingestJobs/{row.id}",
        document=names.document_name(row.collection_id, row.document_id),
        state=_JOB_STATES[row.state],
        stage=_STAGES[row.stage],
        passages_done=row.passages_done,
        passages_total=row.passages_total,
        error=_status(row.error),
        attempts=row.attempts,
        create_time=timestamp(row.create_time),
        update_time=timestamp(row.update_time),
        finish_time=timestamp(row.finish_time),
        watermark="" if row.watermark is None else str(row.watermark),
    )


def passage_message(row: PassageRow, document: str) -> document_pb2.Passage:
    """A passage of the document with this name."""
    spans = [] if row.sentences is None else row.sentences.spans.tolist()
    return document_pb2.Passage(
        document=document,
        passage_index=row.passage_index,
        text=row.text,
        span=_span_message(row.span),
        heading_path=row.heading_path,
        page=row.page,
        tokens=row.tokens,
        sentences=[vector_pb2.TextSpan(start=start, end=end) for start, end in spans],
        places=map(_place_message, row.places),
        parent=_span_message(row.parent) if row.parent else None,
    )


def _span_message(span: Span) -> vector_pb2.TextSpan:
    return vector_pb2.TextSpan(start=span.start, end=span.end)


def _place_message(place: Place) -> document_pb2.Place:
    left, bottom, right, top = place.box or (0.0, 0.0, 0.0, 0.0)
    return document_pb2.Place(page=place.page, left=left, bottom=bottom, right=right, top=top)


def error_value(error: BaseException) -> Mapping[str, JsonValue]:
    """An error as a job keeps it."""
    row = row_of(error)
    if isinstance(error, RagmeshError):
        return {
            "code": row.code.name,
            "reason": row.reason,
            "message": error.message,
            "metadata": dict(error.metadata),
        }
    return {"code": row.code.name, "reason": row.reason, "message": "Internal error; see the log."}


def _status(error: Mapping[str, JsonValue] | None) -> status_pb2.Status | None:
    if error is None:
        return None
    info = error_details_pb2.ErrorInfo(reason=str(error["reason"]), domain=DOMAIN)
    metadata = error.get("metadata")
    if isinstance(metadata, Mapping):
        info.metadata.update({key: str(value) for key, value in metadata.items()})
    packed = Any()
    packed.Pack(info)
    return status_pb2.Status(
        code=grpc.StatusCode[str(error["code"])].value[0],
        message=str(error["message"]),
        details=[packed],
    )
