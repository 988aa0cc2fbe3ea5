"""What makes a request of the document service wrong whatever the state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.errors import InvalidField
from services.rpc import fields, names, paging
from services.rpc.chain import Check

DISPLAY_NAME_CHARACTERS_MAX = 500
SOURCE_URI_CHARACTERS_MAX = 2_000
MEDIA_TYPE_CHARACTERS_MAX = 200
PAYLOAD_BYTES_MAX = 32 << 10
PIECE_BYTES_MAX = 1 << 20


def _document(document: document_pb2.Document, field: str) -> None:
    fields.characters(document.display_name, f"{field}.display_name", DISPLAY_NAME_CHARACTERS_MAX)
    fields.characters(document.source_uri, f"{field}.source_uri", SOURCE_URI_CHARACTERS_MAX)
    fields.characters(document.media_type, f"{field}.media_type", MEDIA_TYPE_CHARACTERS_MAX)
    for name in ("display_name", "source_uri"):
        fields.storable(getattr(document, name), f"{field}.{name}")
    fields.payload(document.payload, f"{field}.payload", PAYLOAD_BYTES_MAX)


def _create(request: pb.CreateDocumentRequest) -> None:
    names.collection_id(request.parent, "parent")
    fields.request_id(request.request_id)
    if request.document_id:
        names.check_id(request.document_id, "document_id")
    _document(request.document, "document")
    if request.WhichOneof("content") is None:
        raise InvalidField("The document has no content. Give text or data.", field="content")


def _upload(request: pb.UploadDocumentRequest) -> None:
    piece = request.WhichOneof("piece")
    if piece is None:
        raise InvalidField(
            "A piece of an upload is neither header nor data nor end.", field="piece"
        )
    if piece == "data":
        if len(request.data) > PIECE_BYTES_MAX:
            raise InvalidField(
                f"data has {len(request.data):,} bytes; a piece has at most {PIECE_BYTES_MAX:,}. "
                "Send more and smaller pieces.",
                field="data",
                metadata={"bytes": len(request.data), "bytes_max": PIECE_BYTES_MAX},
            )
        return
    if piece == "end":
        return
    names.collection_id(request.header.parent, "header.parent")
    fields.request_id(request.header.request_id)
    if request.header.document_id:
        names.check_id(request.header.document_id, "header.document_id")
    _document(request.header.document, "header.document")


def _named_document(request: pb.GetDocumentRequest | pb.DeleteDocumentRequest) -> None:
    names.document_ids(request.name)


def _reindex(request: pb.ReindexDocumentRequest) -> None:
    names.document_ids(request.name)
    fields.request_id(request.request_id)


def _list(request: pb.ListDocumentsRequest) -> None:
    names.collection_id(request.parent, "parent")
    paging.page_size(request.page_size)
    fields.enum(request, "state")


def _list_passages(request: pb.ListPassagesRequest) -> None:
    names.document_ids(request.parent, "parent")
    paging.page_size(request.page_size)
    if request.from_index < 0:
        raise InvalidField(
            f"from_index is {request.from_index}; the first passage is 0.",
            field="from_index",
            metadata={"from_index": request.from_index},
        )


def _named_job(
    request: pb.GetIngestJobRequest
    | pb.CancelIngestJobRequest
    | pb.RetryIngestJobRequest
    | pb.WatchIngestJobRequest,
) -> None:
    names.parse(request.name, "ingestJobs/*", "name")


def _list_jobs(request: pb.ListIngestJobsRequest) -> None:
    paging.page_size(request.page_size)
    if request.collection:
        names.collection_id(request.collection, "collection")
    fields.enum(request, "state")


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.CreateDocumentRequest: _create,
        pb.UploadDocumentRequest: _upload,
        pb.GetDocumentRequest: _named_document,
        pb.DeleteDocumentRequest: _named_document,
        pb.ReindexDocumentRequest: _reindex,
        pb.ListDocumentsRequest: _list,
        pb.ListPassagesRequest: _list_passages,
        pb.GetIngestJobRequest: _named_job,
        pb.CancelIngestJobRequest: _named_job,
        pb.RetryIngestJobRequest: _named_job,
        pb.WatchIngestJobRequest: _named_job,
        pb.ListIngestJobsRequest: _list_jobs,
    }
)
