"""Calls of the document service about documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ragmesh import _rpcs as rpcs
from ragmesh._convert import documents as convert
from ragmesh._names import collection as collection_name
from ragmesh._names import collection_of, plain_id, refuse
from ragmesh._names import document as document_name
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Lane, Session, write_id
from ragmesh._types import documents as types
from ragmesh._upload import UploadFeed, UploadSource, prepare
from ragmesh._values import to_enum, to_struct
from ragmesh.api.documents.v1 import document_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

# A large file on a slow line; the limit of a call without it is the client's own.
UPLOAD_TIMEOUT_S = 300.0


def create_document(
    session: Session,
    collection: str,
    *,
    text: str | None = None,
    data: bytes | None = None,
    document_id: str = "",
    display_name: str = "",
    media_type: str = "",
    source_uri: str = "",
    payload: Mapping[str, object] | None = None,
    replace_existing: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.StoredDocument]:
    """Stores a text or a file of up to 16 MiB; its ingest job makes it searchable.

    Give exactly one of `text` and `data`. Larger files: `upload_document`. With
    `replace_existing`, a document of that id gets this as its new version, and stays searchable as
    it was until that is published in one step. Raises CollectionNotFound, DocumentExists,
    NoEmbeddingModel, UnsupportedMediaType, MessageTooLarge, QueueFull or RequestIdReused.
    """
    if (text is None) == (data is None):
        raise refuse("content", "is not one thing: give exactly one of text and data.")
    request = pb.CreateDocumentRequest(
        parent=collection_name(collection),
        document=_described(display_name, media_type, source_uri, payload),
        document_id=plain_id("documents", document_id, "document_id"),
        request_id=write_id(request_id),
        replace_existing=replace_existing,
    )
    if text is not None:
        request.text = text
    if data is not None:
        request.data = data
    response = yield from send(
        session, rpcs.CREATE_DOCUMENT, request, timeout_s=timeout_s, lane=lane
    )
    return convert.stored(response)


def upload_document(
    session: Session,
    collection: str,
    source: UploadSource,
    *,
    document_id: str = "",
    display_name: str = "",
    media_type: str = "",
    source_uri: str = "",
    payload: Mapping[str, object] | None = None,
    replace_existing: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = UPLOAD_TIMEOUT_S,
    lane: Lane | None = None,
) -> Plan[types.StoredDocument]:
    """Stores a file of up to 256 MiB, sent in pieces of 512 KiB where it is longer than one.

    `source` is a path, bytes or a binary file object, which is read from where it stands (and
    read again if the call is retried; one that cannot seek is sent once). A path gives
    `display_name` and `media_type` where they are empty. `replace_existing` is as in
    `create_document`, and so is what it raises, beside OSError if the file cannot be read.
    """
    upload = prepare(source)
    document = _described(
        display_name or upload.file_name, media_type or upload.media_type, source_uri, payload
    )
    header = pb.UploadHeader(
        parent=collection_name(collection),
        document=document,
        document_id=plain_id("documents", document_id, "document_id"),
        request_id=write_id(request_id),
        replace_existing=replace_existing,
    )
    if upload.whole is not None:
        # One message for a file of one piece, in place of a stream of three.
        created = yield from send(
            session,
            rpcs.CREATE_DOCUMENT,
            pb.CreateDocumentRequest(
                parent=header.parent,
                document=document,
                document_id=header.document_id,
                data=upload.whole,
                request_id=header.request_id,
                replace_existing=replace_existing,
            ),
            timeout_s=timeout_s,
            lane=lane,
        )
        return convert.stored(created)
    response = yield from send(
        session,
        rpcs.UPLOAD_DOCUMENT,
        UploadFeed(header, upload),
        timeout_s=timeout_s,
        lane=lane,
        repeatable=upload.repeatable,
    )
    return convert.stored(response)


def get_document(
    session: Session,
    name: str,
    *,
    collection: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.Document]:
    """Returns one document, by its whole name or by its id in `collection`.

    Raises DocumentNotFound.
    """
    request = pb.GetDocumentRequest(name=document_name(name, collection))
    response = yield from send(session, rpcs.GET_DOCUMENT, request, timeout_s=timeout_s)
    return convert.document(response.document)


def list_documents(
    session: Session,
    collection: str,
    *,
    state: Literal["", "ingesting", "active", "failed"] = "",
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.Document]:
    """Lists a collection's documents by name: those in one state if given."""
    return paged(
        session,
        rpcs.LIST_DOCUMENTS,
        pb.ListDocumentsRequest(
            parent=collection_name(collection),
            page_size=page_size,
            state=to_enum(document_pb2.Document.State.DESCRIPTOR, state, "state"),
        ),
        lambda response: map(convert.document, response.documents),
        timeout_s=timeout_s,
    )


def delete_document(
    session: Session,
    name: str,
    *,
    collection: str | None = None,
    timeout_s: float | None = None,
) -> Plan[str]:
    """Deletes a document in any state, with its passages and points.

    Returns the collection's commit that took its points away. Raises DocumentNotFound.
    """
    request = pb.DeleteDocumentRequest(name=document_name(name, collection))
    response = yield from send(session, rpcs.DELETE_DOCUMENT, request, timeout_s=timeout_s)
    session.remember(collection_of(request.name), response.watermark)
    return response.watermark


def reindex_document(
    session: Session,
    name: str,
    *,
    collection: str | None = None,
    request_id: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.StoredDocument]:
    """Ingests a stored file anew, as its collection and the parsers are now.

    A document that is searchable stays so, as it was, until its new passages are published in one
    step. Returns it with the job that does it. Raises DocumentNotFound, QueueFull or
    RequestIdReused.
    """
    request = pb.ReindexDocumentRequest(
        name=document_name(name, collection), request_id=write_id(request_id)
    )
    response = yield from send(
        session, rpcs.REINDEX_DOCUMENT, request, timeout_s=timeout_s, lane=lane
    )
    return convert.stored(response)


def list_passages(
    session: Session,
    document: str,
    *,
    collection: str | None = None,
    from_index: int = 0,
    page_size: int = 0,
    timeout_s: float | None = None,
) -> Pages[types.Passage]:
    """Lists a document's passages in the order of its text, from `from_index` on."""
    parent = document_name(document, collection, "document")
    return paged(
        session,
        rpcs.LIST_PASSAGES,
        pb.ListPassagesRequest(parent=parent, page_size=page_size, from_index=from_index),
        lambda response: map(convert.passage, response.passages),
        timeout_s=timeout_s,
    )


def _described(
    display_name: str, media_type: str, source_uri: str, payload: Mapping[str, object] | None
) -> document_pb2.Document:
    return document_pb2.Document(
        display_name=display_name,
        media_type=media_type,
        source_uri=source_uri,
        payload=to_struct(payload) if payload else None,
    )
