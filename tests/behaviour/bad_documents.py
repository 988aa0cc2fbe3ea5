"""Bad requests of the document service."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from google.protobuf import struct_pb2
from google.protobuf.message import Message
from ragmesh.api.documents.v1 import document_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from tests.behaviour.bad_requests import Bad, Table, World, identified, named, paged
from tests.behaviour.given import upload_pieces

ABSENT = "collections/absent"
PROGRAM = b"\x7fELF" + bytes(range(256)) * 4


def _wrong_documents() -> Iterator[tuple[str, document_pb2.Document]]:
    large = struct_pb2.Struct()
    large.update({"x": "y" * 33_000})
    yield "display_name too long", document_pb2.Document(display_name="x" * 501)
    yield "display_name with a NUL", document_pb2.Document(display_name="a\0b")
    yield "source_uri too long", document_pb2.Document(source_uri="x" * 2_001)
    yield "source_uri with a NUL", document_pb2.Document(source_uri="a\0b")
    yield "media_type too long", document_pb2.Document(media_type="x" * 201)
    yield "payload too large", document_pb2.Document(payload=large)


def _create(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.CreateDocumentRequest:
        content = {} if "data" in fields else {"text": "Some text."}
        return pb.CreateDocumentRequest(**{"parent": world.texts, **content, **fields})

    yield from named(lambda name: make(parent=name), "collections/{}")
    yield from identified(make)
    yield Bad("collection unknown", make(parent=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("collection without a model", make(parent=world.vectors), "NO_EMBEDDING_MODEL")
    yield Bad("document_id with capitals", make(document_id="UPPER"))
    taken = world.document.rpartition("/")[2]
    yield Bad("id taken", make(document_id=taken), "DOCUMENT_EXISTS")
    yield Bad("no content", pb.CreateDocumentRequest(parent=world.texts))
    yield Bad("empty text", make(text=""), "DOCUMENT_UNREADABLE")
    yield Bad("a program", make(data=PROGRAM), "UNSUPPORTED_MEDIA_TYPE")
    for what, document in _wrong_documents():
        yield Bad(what, make(document=document))


def _upload(world: World) -> Iterator[Bad]:
    data, end = upload_pieces(b"Some text.")

    def make(*pieces: Message, **fields: Any) -> tuple[Message, ...]:
        header = pb.UploadHeader(**{"parent": world.texts, **fields})
        return (pb.UploadDocumentRequest(header=header), *(pieces or (data, end)))

    yield from (
        Bad(bad.what, make(parent=bad.request.parent))  # type: ignore[union-attr]
        for bad in named(lambda n: pb.ListDocumentsRequest(parent=n), "collections/{}")
    )
    yield Bad("request_id no UUID", make(request_id="again"))
    yield Bad("collection unknown", make(parent=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("collection without a model", make(parent=world.vectors), "NO_EMBEDDING_MODEL")
    yield Bad("document_id with capitals", make(document_id="UPPER"))
    taken = world.document.rpartition("/")[2]
    yield Bad("id taken", make(document_id=taken), "DOCUMENT_EXISTS")
    yield Bad("nothing at all", ())
    yield Bad("no header", (data, end))
    yield Bad("no end", make(data))
    yield Bad("not all that was sent", make(data, data, end))
    yield Bad("a piece after the end", make(data, end, data))
    yield Bad("two headers", make(data, *make()[:1], end))
    yield Bad("a piece of neither", make(pb.UploadDocumentRequest()))
    large = pb.UploadDocumentRequest(data=b"x" * ((1 << 20) + 1))
    yield Bad("a piece over 1 MiB", make(large))
    yield Bad("an empty file", make(*upload_pieces(b"")), "DOCUMENT_UNREADABLE")
    yield Bad("a program", make(*upload_pieces(PROGRAM)), "UNSUPPORTED_MEDIA_TYPE")
    for what, document in _wrong_documents():
        yield Bad(what, make(document=document))


def _document(kind: type[Any], field: str, world: World) -> Iterator[Bad]:
    def make(name: str) -> Message:
        message: Message = kind(**{field: name})
        return message

    yield from named(make, world.texts + "/documents/{}")
    absent = f"{world.texts}/documents/absent"
    yield Bad("document unknown", make(absent), "DOCUMENT_NOT_FOUND")
    nowhere = f"{ABSENT}/documents/absent"
    yield Bad("collection unknown", make(nowhere), "COLLECTION_NOT_FOUND")


def _reindex(world: World) -> Iterator[Bad]:
    yield from _document(pb.ReindexDocumentRequest, "name", world)
    yield from identified(partial(pb.ReindexDocumentRequest, name=world.document))


def _list_documents(world: World) -> Iterator[Bad]:
    yield from named(lambda name: pb.ListDocumentsRequest(parent=name), "collections/{}")
    yield from paged(partial(pb.ListDocumentsRequest, parent=world.texts))
    absent = pb.ListDocumentsRequest(parent=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    wrong = pb.ListDocumentsRequest(parent=world.texts, state=99)  # type: ignore[arg-type]
    yield Bad("state unknown", wrong)


def _list_passages(world: World) -> Iterator[Bad]:
    yield from _document(pb.ListPassagesRequest, "parent", world)
    yield from paged(partial(pb.ListPassagesRequest, parent=world.document))
    before = pb.ListPassagesRequest(parent=world.document, from_index=-1)
    yield Bad("from_index below 0", before)


def _job(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from named(lambda name: kind(name=name), "ingestJobs/{}")
    yield Bad("job unknown", kind(name="ingestJobs/absent"), "INGEST_JOB_NOT_FOUND")


def _finished_job(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from _job(kind, world)
    yield Bad("job succeeded", kind(name=world.job), "INGEST_JOB_FINISHED")


def _list_jobs(world: World) -> Iterator[Bad]:
    make = pb.ListIngestJobsRequest
    yield from paged(make)
    yield Bad("collection of the wrong form", make(collection="bananas/1"))
    yield Bad("collection unknown", make(collection=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("state unknown", make(state=99))  # type: ignore[arg-type]


TABLE: Table = {
    "CreateDocument": _create,
    "UploadDocument": _upload,
    "GetDocument": partial(_document, pb.GetDocumentRequest, "name"),
    "ListDocuments": _list_documents,
    "DeleteDocument": partial(_document, pb.DeleteDocumentRequest, "name"),
    "ReindexDocument": _reindex,
    "ListPassages": _list_passages,
    "GetIngestJob": partial(_job, pb.GetIngestJobRequest),
    "ListIngestJobs": _list_jobs,
    "CancelIngestJob": partial(_finished_job, pb.CancelIngestJobRequest),
    "RetryIngestJob": partial(_finished_job, pb.RetryIngestJobRequest),
    "WatchIngestJob": partial(_job, pb.WatchIngestJobRequest),
}
