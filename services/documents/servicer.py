"""The document service's handlers: check, call, translate, answer."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from datetime import datetime

from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.documents.detect import detect
from engine.errors import (
    CollectionNotFound,
    InvalidField,
    MessageTooLarge,
    NoEmbeddingModel,
)
from services.config import DocumentSettings
from services.documents import convert
from services.documents.admission import Admission
from services.documents.checks import CHECKS
from services.documents.files import Files, Incoming
from services.documents.pipeline import Pipeline
from services.mesh.mesh import Mesh
from services.objects.seam import ObjectStore
from services.rpc import names, paging
from services.rpc.call import Call
from services.rpc.pieces import next_piece
from services.rpc.values import payload_value
from services.store import collections, documents, jobs, passages
from services.store.collections import Collection
from services.store.contents import Content
from services.store.documents import NewDocument
from services.store.jobs import IngestJob
from services.store.once import once
from services.store.store import Store, Tx

WATCH_POLL_S = 0.5
"""How often a watched job is looked at that another node works on; this node's own tell."""

SAMPLE_BYTES = 64 << 10
"""What the kind of a file is found from."""


class DocumentServicer:
    """Stores documents and runs this node's ingest workers."""

    checks = CHECKS

    def __init__(
        self,
        settings: DocumentSettings,
        store: Store,
        mesh: Mesh,
        owner: str,
        objects: ObjectStore,
    ) -> None:
        """`objects` has the files of documents, and is closed with it."""
        self._settings = settings
        self._store = store
        self._admission = Admission(settings.jobs_waiting_max)
        self._files = Files(store, objects)
        self._pipeline = Pipeline(settings, store, mesh, owner, self._files)

    async def start(self) -> None:
        """Starts the ingest workers, and the care for the files."""
        self._files.start()
        self._pipeline.start()

    async def drain(self) -> None:
        """Gives running jobs back, for other nodes."""
        await self._pipeline.stop()

    async def close(self) -> None:
        """Stops the workers if they run, and lets go of the object store."""
        await self._pipeline.stop()
        await self._files.close()

    async def CreateDocument(
        self, request: pb.CreateDocumentRequest, call: Call
    ) -> pb.CreateDocumentResponse:
        """Stores a document that came with the request."""
        inline = request.WhichOneof("content") == "text"
        data = request.text.encode() if inline else request.data
        content = _content(request.document, data, hashlib.sha256(data).digest(), len(data))

        async def work(tx: Tx) -> pb.CreateDocumentResponse:
            document, job = await self._store_document(tx, request, content, call)
            return pb.CreateDocumentResponse(document=document, ingest_job=job)

        async def named() -> pb.CreateDocumentResponse:
            return await once(
                self._store,
                call.tenant,
                request.request_id,
                request,
                pb.CreateDocumentResponse,
                work,
                timeout_s=call.remaining_s(),
            )

        async with self._files.incoming() as file:
            await file.take(data)
            await file.whole()
            response = await self._files.kept(call.tenant, content, file.path, named)
        self._pipeline.nudge()
        return response

    async def UploadDocument(
        self, requests: AsyncIterator[pb.UploadDocumentRequest], call: Call
    ) -> pb.UploadDocumentResponse:
        """Stores a document that comes in pieces. An upload that is cut leaves nothing."""
        first = await next_piece(requests, call)
        if first is None or first.WhichOneof("piece") != "header":
            raise InvalidField("An upload begins with its header.", field="header")
        header = first.header
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            await self._admitted(tx, header.parent)  # rather than after all of it has come
        async with self._files.incoming() as file:
            sample = await self._receive(requests, file, call)
            content = _content(header.document, sample, file.sha256, file.size_bytes)

            async def work(tx: Tx) -> pb.UploadDocumentResponse:
                document, job = await self._store_document(tx, header, content, call)
                return pb.UploadDocumentResponse(document=document, ingest_job=job)

            async def named() -> pb.UploadDocumentResponse:
                return await once(
                    self._store,
                    call.tenant,
                    header.request_id,
                    first,
                    pb.UploadDocumentResponse,
                    work,
                    timeout_s=call.remaining_s(),
                    payload=header.SerializeToString(deterministic=True) + content.sha256,
                )

            response = await self._files.kept(call.tenant, content, file.path, named)
        self._pipeline.nudge()
        return response

    async def _receive(
        self, requests: AsyncIterator[pb.UploadDocumentRequest], file: Incoming, call: Call
    ) -> bytes:
        """Takes all pieces; how the file begins."""
        sample, most = b"", self._settings.file_bytes_max
        while (request := await next_piece(requests, call)) is not None:
            piece = request.WhichOneof("piece")
            if piece == "end":
                await _require_all(request.end, file.sha256.hex(), requests, call)
                await file.whole()
                return sample
            if piece != "data":
                raise InvalidField("An upload has one header.", field="header")
            if file.size_bytes + len(request.data) > most:
                raise MessageTooLarge(
                    f"The file has more than {most:,} bytes ({most >> 20} MiB), which is the "
                    "most that is taken. Split it.",
                    metadata={"limit_bytes": most},
                )
            if len(sample) < SAMPLE_BYTES:
                sample += request.data[: SAMPLE_BYTES - len(sample)]
            await file.take(request.data)
        raise InvalidField(
            f"The upload was cut after {file.size_bytes:,} bytes: its end never came. "
            "Send it again.",
            field="end",
            metadata={"bytes": file.size_bytes},
        )

    async def _admitted(self, tx: Tx, parent: str) -> Collection:
        """The collection, if it takes a document now. Raises CollectionNotFound, NoEmbeddingModel
        and QueueFull."""
        collection = await collections.get_collection(tx, names.collection_id(parent, "parent"))
        if not collection.embedding_model:
            raise NoEmbeddingModel(
                f"Collection {collection.id!r} has no embedding model, so it takes points but no "
                "documents. Make one with a model.",
                field="parent",
                metadata={"collection": collection.id},
            )
        await self._admission.require_room(tx)
        return collection

    async def _store_document(
        self,
        tx: Tx,
        asked: pb.CreateDocumentRequest | pb.UploadHeader,
        content: Content,
        call: Call,
    ) -> tuple[document_pb2.Document, ingest_job_pb2.IngestJob]:
        collection = await self._admitted(tx, asked.parent)
        said = asked.document
        document, job = await documents.create_document(
            tx,
            collection,
            NewDocument(
                id=asked.document_id or names.new_id(),
                display_name=said.display_name,
                source_uri=said.source_uri,
                payload=payload_value(said.payload),
            ),
            content,
            job_id=names.new_id(),
            exists=self._files.exists,
            bulk=call.lane == "bulk",
            replace_existing=asked.replace_existing,
        )
        return convert.document_message(document, collection.id), convert.job_message(job)

    async def GetDocument(
        self, request: pb.GetDocumentRequest, call: Call
    ) -> pb.GetDocumentResponse:
        """Returns one document."""
        collection_id, document_id = names.document_ids(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await collections.get_collection(tx, collection_id)
            row = await documents.get_document(tx, collection, document_id)
        return pb.GetDocumentResponse(document=convert.document_message(row, collection_id))

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, call: Call
    ) -> pb.ListDocumentsResponse:
        """Lists documents by name."""
        size = paging.page_size(request.page_size)
        collection_id = names.collection_id(request.parent, "parent")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await collections.get_collection(tx, collection_id)
            listing = f"documents/{collection.home_uid}"
            after = paging.read_token(listing, request.page_token) or ""
            found = await documents.list_documents(tx, collection, after=after, limit=size + 1)
        response = pb.ListDocumentsResponse(
            documents=[convert.document_message(r, collection_id) for r in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token(listing, found[size - 1].id)
        return response

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, call: Call
    ) -> pb.DeleteDocumentResponse:
        """Deletes a document in any state."""
        collection_id, document_id = names.document_ids(request.name)

        async def work(tx: Tx) -> str:
            collection = await collections.get_collection(tx, collection_id)
            commit = await documents.delete_document(tx, collection, document_id)
            return str(commit.seq)

        try:
            watermark = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        except CollectionNotFound:
            # Another index may have taken over between the look at the collection and the write.
            watermark = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        return pb.DeleteDocumentResponse(watermark=watermark)

    async def ListPassages(
        self, request: pb.ListPassagesRequest, call: Call
    ) -> pb.ListPassagesResponse:
        """Lists a document's passages in the order of its text."""
        size = paging.page_size(request.page_size)
        collection_id, document_id = names.document_ids(request.parent, "parent")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await collections.get_collection(tx, collection_id)
            document = await documents.get_document(tx, collection, document_id)
            key = document.passage_set_key
            listing = f"passages/{collection.home_uid}/{document_id}/{key.hex() if key else ''}"
            after = int(paging.read_token(listing, request.page_token) or -1)
            found = (
                await passages.list_passages(tx, key, after_index=after, limit=size + 1)
                if key
                else []
            )
        response = pb.ListPassagesResponse(
            passages=[convert.passage_message(r, request.parent) for r in found[:size]]
        )
        if len(found) > size:
            last = found[size - 1].passage_index
            response.next_page_token = paging.write_token(listing, str(last))
        return response

    async def GetIngestJob(
        self, request: pb.GetIngestJobRequest, call: Call
    ) -> pb.GetIngestJobResponse:
        """Returns one job."""
        return pb.GetIngestJobResponse(
            ingest_job=convert.job_message(await self._job(request, call))
        )

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

    async def WatchIngestJob(
        self, request: pb.WatchIngestJobRequest, call: Call
    ) -> AsyncIterator[pb.WatchIngestJobResponse]:
        """Sends the job now and after every change, until it is finished."""
        seen: IngestJob | None = None
        while True:
            row = await self._job(request, call)
            if row != seen:
                yield pb.WatchIngestJobResponse(ingest_job=convert.job_message(row))
                seen = row
            if row.finished:
                return
            await self._pipeline.moved(row.id, WATCH_POLL_S)

    async def _job(
        self, request: pb.GetIngestJobRequest | pb.WatchIngestJobRequest, call: Call
    ) -> IngestJob:
        (job_id,) = names.parse(request.name, "ingestJobs/*", "name")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            return await jobs.get_job(tx, job_id)


async def _require_all(
    end: pb.UploadEnd, sha256: str, requests: AsyncIterator[pb.UploadDocumentRequest], call: Call
) -> None:
    """Raises InvalidField where what came is not what was sent, or goes on after its end."""
    if end.content_sha256.lower() != sha256:
        raise InvalidField(
            f"What came has SHA-256 {sha256}, which is not the end's. Send the file again.",
            field="end.content_sha256",
            metadata={"content_sha256": sha256},
        )
    if await next_piece(requests, call) is not None:
        raise InvalidField("The upload goes on after its end.", field="end")


def _content(
    document: document_pb2.Document, sample: bytes, sha256: bytes, size_bytes: int
) -> Content:
    """What a file is. Raises UnsupportedMediaType, or DocumentUnreadable for an empty one."""
    media_type = detect(sample, document.display_name, document.media_type)
    return Content(sha256, size_bytes, media_type)


def _read_job_key(token: str | None) -> tuple[datetime, str] | None:
    if token is None:
        return None
    time, _, job_id = token.partition(" ")
    return datetime.fromisoformat(time), job_id
