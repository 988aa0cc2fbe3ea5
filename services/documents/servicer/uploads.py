"""Files that come in: whole with their request, or in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.documents.detect import detect
from engine.errors import InvalidField, MessageTooLarge
from services.documents import convert
from services.documents.files import Incoming
from services.documents.servicer.base import Handlers, collection_of
from services.rpc import names
from services.rpc.call import Call
from services.rpc.pieces import next_piece
from services.rpc.values import payload_value
from services.store import documents
from services.store.contents import Content
from services.store.documents import NewDocument
from services.store.once import once
from services.store.store import Tx

SAMPLE_BYTES = 64 << 10
"""What the kind of a file is found from."""


class UploadHandlers(Handlers):
    """Handlers that take files in."""

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
            await self._admitted(
                tx, collection_of(header.parent)
            )  # rather than after all of it has come
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

    async def _store_document(
        self,
        tx: Tx,
        asked: pb.CreateDocumentRequest | pb.UploadHeader,
        content: Content,
        call: Call,
    ) -> tuple[document_pb2.Document, ingest_job_pb2.IngestJob]:
        collection = await self._admitted(tx, collection_of(asked.parent))
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
