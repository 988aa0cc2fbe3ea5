"""What a scenario needs before it begins: collections of its own, points and documents in them."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Value
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import budget_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.memory.v1 import memory_pb2, session_pb2
from ragmesh.api.memory.v1 import memory_service_pb2 as memory
from ragmesh.api.retrieval.v1 import collection_pb2, filter_pb2, migration_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval

from engine.types import Vector
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

CORPUS = Path(__file__).parents[2] / "corpus"
DIMENSIONS = 8
JOB_S = 60.0
READY_S = 60.0


def new_id(stem: str = "c") -> str:
    """An id that no other test uses."""
    return f"{stem}-{uuid.uuid4().hex[:12]}"


@cache
def abstracts() -> tuple[dict[str, str], ...]:
    """The SciFact abstracts that come with the repository: `_id`, `title`, `text`."""
    with gzip.open(CORPUS / "scifact.jsonl.gz", "rt", encoding="utf-8") as lines:
        return tuple(json.loads(line) for line in lines)


def vectors(count: int, dimensions: int = DIMENSIONS, seed: int = 7) -> Vector:
    """Random unit vectors, a row each."""
    rows = np.random.default_rng(seed).standard_normal((count, dimensions)).astype(np.float32)
    unit: Vector = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def packed(vector: Vector) -> vector_pb2.Vector:
    """A vector as bytes."""
    return vector_pb2.Vector(packed=np.ascontiguousarray(vector, dtype="<f4").tobytes())


def dense(values: Iterable[float]) -> vector_pb2.Vector:
    """A vector as numbers."""
    return vector_pb2.Vector(dense=vector_pb2.DenseVector(values=values))


def unpacked(message: vector_pb2.Vector) -> Vector:
    """A vector that was returned."""
    return np.frombuffer(message.packed, dtype="<f4")


def point(
    point_id: str, vector: Vector | None = None, text: str = "", **payload: Any
) -> point_pb2.Point:
    """A point to write."""
    made = point_pb2.Point(id=point_id, text=text)
    if vector is not None:
        made.vector.CopyFrom(packed(vector))
    if payload:
        made.payload.update(payload)
    return made


def upload_pieces(data: bytes, size: int = 1 << 20) -> list[Message]:
    """What follows the header of an upload: the data in pieces of `size` bytes, and the end."""
    end = documents.UploadEnd(content_sha256=hashlib.sha256(data).hexdigest())
    return [
        *(
            documents.UploadDocumentRequest(data=data[i : i + size])
            for i in range(0, len(data), size)
        ),
        documents.UploadDocumentRequest(end=end),
    ]


def equals(field: str, value: Any) -> filter_pb2.Filter:
    """The filter `field == value`."""
    made = filter_pb2.Filter()
    made.equals.field = field
    made.equals.value.CopyFrom(_value(value))
    return made


def one_of(field: str, values: Sequence[Any]) -> filter_pb2.Filter:
    """The filter `field in values`."""
    made = filter_pb2.Filter()
    made.one_of.field = field
    made.one_of.values.extend(_value(v) for v in values)
    return made


def between(field: str, **bounds: Any) -> filter_pb2.Filter:
    """The filter of a range: `gte=1, lt=5`."""
    made = filter_pb2.Filter()
    made.range.field = field
    for name, bound in bounds.items():
        getattr(made.range, name).CopyFrom(_value(bound))
    return made


def all_of(*filters: filter_pb2.Filter) -> filter_pb2.Filter:
    """All of them."""
    return filter_pb2.Filter(all_of=filter_pb2.FilterList(filters=filters))


def any_of(*filters: filter_pb2.Filter) -> filter_pb2.Filter:
    """Any of them."""
    return filter_pb2.Filter(any_of=filter_pb2.FilterList(filters=filters))


def none_of(*filters: filter_pb2.Filter) -> filter_pb2.Filter:
    """None of them."""
    return filter_pb2.Filter(none_of=filter_pb2.FilterList(filters=filters))


def _value(value: Any) -> Value:
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, str):
        return Value(string_value=value)
    return Value(number_value=value)


def budget_of(collection: str) -> str:
    """The name of the budget that goes with a collection of a world."""
    return collection.replace("collections/", "budgets/")


def session_of(collection: str) -> str:
    """The session that this budget is for."""
    return collection.replace("collections/", "sessions/")


class Given:
    """Makes what a scenario needs, over the rung that the scenario runs on."""

    def __init__(self, rung: Rung) -> None:
        self.rung = rung

    async def vector_collection(
        self, *, tenant: str = "default", collection_id: str = "", **settings: Any
    ) -> str:
        """A collection of vectors that callers bring, 8 numbers each; its name."""
        settings = {"dimensions": DIMENSIONS, **settings}
        made = collection_pb2.Collection(**settings)
        return await self._collection(made, tenant, collection_id)

    async def text_collection(self, *, tenant: str = "default", **settings: Any) -> str:
        """A collection whose texts the mesh embeds; its name."""
        return await self._collection(collection_pb2.Collection(**settings), tenant)

    async def _collection(
        self, collection: collection_pb2.Collection, tenant: str, collection_id: str = ""
    ) -> str:
        response = await self.rung.call(
            "CreateCollection",
            retrieval.CreateCollectionRequest(
                collection=collection, collection_id=collection_id or new_id()
            ),
            tenant=tenant,
        )
        return str(response.collection.name)

    async def points(
        self,
        collection: str,
        points: Sequence[point_pb2.Point],
        *,
        tenant: str = "default",
        wait: bool = False,
    ) -> str:
        """Writes points; the watermark."""
        response = await self.rung.call(
            "UpsertPoints",
            retrieval.UpsertPointsRequest(collection=collection, points=points, wait=wait),
            tenant=tenant,
        )
        assert response.upserted == len(points)
        return str(response.watermark)

    async def budget(self, collection: str, *, tenant: str = "default") -> str:
        """The budget of a session that is called as a collection; its name."""
        made = budget_pb2.Budget(
            name=budget_of(collection), session=session_of(collection), limit_tokens=10**9
        )
        request = generation.SetBudgetRequest(budget=made)
        response = await self.rung.call("SetBudget", request, tenant=tenant)
        return str(response.budget.name)

    async def snapshot(self, collection: str, *, tenant: str = "default") -> str:
        """A snapshot of a collection as it is; its name."""
        response = await self.rung.call(
            "CreateSnapshot",
            retrieval.CreateSnapshotRequest(parent=collection, snapshot_id="kept"),
            tenant=tenant,
        )
        return str(response.snapshot.name)

    async def migrating(self, *, tenant: str = "default", **settings: Any) -> str:
        """A collection of vectors with a second index that is ready; its name."""
        collection = await self.vector_collection(tenant=tenant, **settings)
        start = retrieval.StartMigrationRequest(
            collection=collection, hnsw=collection_pb2.HnswSettings(m=8)
        )
        await self.rung.call("StartMigration", start, tenant=tenant)
        await self.ready(collection, tenant=tenant)
        return collection

    async def ready(self, collection: str, *, tenant: str = "default") -> migration_pb2.Migration:
        """The migration of a collection once its second index is ready."""
        give_up_s = time.monotonic() + READY_S
        while True:
            response = await self.rung.call(
                "GetMigration", retrieval.GetMigrationRequest(collection=collection), tenant=tenant
            )
            found: migration_pb2.Migration = response.migration
            if found.state != migration_pb2.Migration.STATE_BUILDING:
                return found
            assert time.monotonic() < give_up_s, found
            await asyncio.sleep(0.05)

    async def session(
        self, *words: str, tenant: str = "default", session_id: str = "", **settings: Any
    ) -> str:
        """A session with these messages, of which every second one answers; its name."""
        create = memory.CreateSessionRequest(
            session=session_pb2.Session(**settings), session_id=session_id or new_id()
        )
        response = await self.rung.call("CreateSession", create, tenant=tenant)
        name = str(response.session.name)
        if words:
            await self.said(name, *words, tenant=tenant)
        return name

    async def memory(
        self,
        text: str = "Ada likes rain.",
        *,
        subject: str = "ada",
        tenant: str = "default",
        memory_id: str = "",
    ) -> str:
        """A fact that is remembered; its name."""
        kind = memory_pb2.Memory.KIND_FACT
        create = memory.CreateMemoryRequest(
            memory=memory_pb2.Memory(subject=subject, kind=kind, text=text), memory_id=memory_id
        )
        response = await self.rung.call("CreateMemory", create, tenant=tenant)
        return str(response.memory.name)

    async def said(
        self, session: str, *words: str, parent: int | None = None, tenant: str = "default"
    ) -> list[int]:
        """Appends messages after `parent`; their indexes."""
        roles = (session_pb2.SessionMessage.ROLE_USER, session_pb2.SessionMessage.ROLE_ASSISTANT)
        request = memory.AppendMessagesRequest(
            session=session,
            messages=[
                session_pb2.SessionMessage(role=roles[i % 2], text=text)
                for i, text in enumerate(words)
            ],
            parent_index=parent,
        )
        response = await self.rung.call("AppendMessages", request, tenant=tenant)
        return list(response.message_indexes)

    async def document(
        self,
        collection: str,
        content: str | bytes,
        display_name: str,
        *,
        tenant: str = "default",
        payload: dict[str, Any] | None = None,
        **asked: Any,
    ) -> documents.CreateDocumentResponse:
        """Stores a document; it is not ingested yet."""
        request = documents.CreateDocumentRequest(
            parent=collection, document=document_pb2.Document(display_name=display_name), **asked
        )
        if payload:
            request.document.payload.update(payload)
        if isinstance(content, str):
            request.text = content
        else:
            request.data = content
        response = await self.rung.call("CreateDocument", request, tenant=tenant)
        assert isinstance(response, documents.CreateDocumentResponse)
        return response

    async def cancelled(self, collection: str, *, tenant: str = "default") -> str:
        """The name of a job that was cancelled; its document is there and not searchable."""
        for _ in range(10):
            text = "\n\n".join(f"Rain fell on {new_id()}." for _ in range(500))
            stored = await self.document(collection, text, "long.txt", tenant=tenant)
            request = documents.CancelIngestJobRequest(name=stored.ingest_job.name)
            try:
                await self.rung.call("CancelIngestJob", request, tenant=tenant)
            except Refused as refused:
                if refused.reason == "INGEST_JOB_FINISHED":  # it was faster than we
                    continue
                raise
            return str(stored.ingest_job.name)
        raise AssertionError("500 passages were ingested ten times before the job was cancelled")

    async def finished(self, job_name: str, *, tenant: str = "default") -> ingest_job_pb2.IngestJob:
        """The job when it is finished, whichever way."""
        last: ingest_job_pb2.IngestJob | None = None
        request = documents.WatchIngestJobRequest(name=job_name)
        async for event in self.rung.stream(
            "WatchIngestJob", request, tenant=tenant, timeout_s=JOB_S
        ):
            last = event.ingest_job
        assert last is not None
        assert last.state in (
            ingest_job_pb2.IngestJob.STATE_SUCCEEDED,
            ingest_job_pb2.IngestJob.STATE_FAILED,
            ingest_job_pb2.IngestJob.STATE_CANCELLED,
        ), last
        return last

    async def ingested(
        self,
        collection: str,
        content: str | bytes,
        display_name: str,
        *,
        tenant: str = "default",
        **asked: Any,
    ) -> tuple[document_pb2.Document, str]:
        """A document that is searchable, and the watermark from which it is."""
        stored = await self.document(collection, content, display_name, tenant=tenant, **asked)
        job = await self.finished(stored.ingest_job.name, tenant=tenant)
        assert job.state == ingest_job_pb2.IngestJob.STATE_SUCCEEDED, job.error
        request = documents.GetDocumentRequest(name=stored.document.name)
        response = await self.rung.call("GetDocument", request, tenant=tenant)
        return response.document, job.watermark
