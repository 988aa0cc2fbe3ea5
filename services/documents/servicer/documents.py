"""Documents that are stored: shown, listed, ingested anew, deleted."""

from __future__ import annotations

from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.errors import CollectionNotFound
from services.documents import convert
from services.documents.servicer.base import Handlers, collection_of
from services.rpc import names, paging
from services.rpc.call import Call
from services.store import collections, documents, ingestions, passages
from services.store.once import once
from services.store.store import Tx


class DocumentHandlers(Handlers):
    """Handlers about documents and their passages."""

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
        collection_id = collection_of(request.parent)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await collections.get_collection(tx, collection_id)
            listing = f"documents/{collection.home_uid}/{request.state}"
            after = paging.read_token(listing, request.page_token) or ""
            found = await documents.list_documents(
                tx,
                collection,
                state=convert.DOCUMENT_STATES.get(request.state),
                after=after,
                limit=size + 1,
            )
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

    async def ReindexDocument(
        self, request: pb.ReindexDocumentRequest, call: Call
    ) -> pb.ReindexDocumentResponse:
        """Queues a document's ingestion anew."""
        collection_id, document_id = names.document_ids(request.name)

        async def work(tx: Tx) -> pb.ReindexDocumentResponse:
            collection = await self._admitted(tx, collection_id)
            document, job = await ingestions.reindex_document(
                tx,
                collection,
                document_id,
                job_id=names.new_id(),
                bulk=call.lane == "bulk",
            )
            return pb.ReindexDocumentResponse(
                document=convert.document_message(document, collection_id),
                ingest_job=convert.job_message(job),
            )

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.ReindexDocumentResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        self._pipeline.nudge()
        return response

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
            token = paging.read_token(listing, request.page_token)
            found = (
                await passages.list_passages(
                    tx, key, after_index=int(token or request.from_index - 1), limit=size + 1
                )
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
