"""Messages of the document service."""

from __future__ import annotations

from typing import cast

from ragmesh import _status
from ragmesh._convert import embedding as vectors
from ragmesh._types import documents as types
from ragmesh._values import from_enum, from_struct, from_time
from ragmesh.api.documents.v1 import document_pb2, document_service_pb2, ingest_job_pb2


def document(message: document_pb2.Document) -> types.Document:
    state = from_enum(document_pb2.Document.State.DESCRIPTOR, message.state)
    return types.Document(
        name=message.name,
        display_name=message.display_name,
        media_type=message.media_type,
        source_uri=message.source_uri,
        payload=from_struct(message.payload),
        state=cast(types.DocumentState, state),
        size_bytes=message.size_bytes,
        content_sha256=message.content_sha256,
        text_characters=message.text_characters,
        passages=message.passages,
        title=message.title,
        ingest_job=message.ingest_job,
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
    )


def passage(message: document_pb2.Passage) -> types.Passage:
    return types.Passage(
        document=message.document,
        passage_index=message.passage_index,
        text=message.text,
        span=vectors.span(message.span),
        heading_path=tuple(message.heading_path),
        page=message.page,
        tokens=message.tokens,
        sentences=tuple(vectors.span(s) for s in message.sentences),
        places=tuple(
            types.Place(place.page, place.left, place.bottom, place.right, place.top)
            for place in message.places
        ),
        parent=vectors.span(message.parent) if message.HasField("parent") else None,
    )


def ingest_job(message: ingest_job_pb2.IngestJob) -> types.IngestJob:
    kinds = ingest_job_pb2.IngestJob
    return types.IngestJob(
        name=message.name,
        document=message.document,
        state=cast(types.IngestJobState, from_enum(kinds.State.DESCRIPTOR, message.state)),
        stage=cast(types.IngestJobStage, from_enum(kinds.Stage.DESCRIPTOR, message.stage)),
        passages_done=message.passages_done,
        passages_total=message.passages_total,
        error=_status.from_status(message.error) if message.HasField("error") else None,
        attempts=message.attempts,
        create_time=from_time(message.create_time),
        update_time=from_time(message.update_time),
        finish_time=from_time(message.finish_time),
        watermark=message.watermark,
    )


def stored(
    message: document_service_pb2.CreateDocumentResponse
    | document_service_pb2.UploadDocumentResponse
    | document_service_pb2.ReindexDocumentResponse,
) -> types.StoredDocument:
    return types.StoredDocument(document(message.document), ingest_job(message.ingest_job))
