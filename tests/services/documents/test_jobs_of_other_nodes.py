"""A job is ended by any node, wherever its worker is: nothing but its row is between them."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import cast

import pytest
from ragmesh.api.documents.v1 import document_service_pb2 as pb
from ragmesh.api.documents.v1 import ingest_job_pb2

from services.config import DocumentSettings
from services.documents.pipeline import Pipeline
from services.documents.servicer import DocumentServicer
from services.mesh.mesh import Mesh
from services.objects.directory import DirectoryStore
from services.rpc.call import Call
from services.store.collections import CollectionSpec, create_collection
from services.store.jobs import IngestJob
from services.store.points import Commit
from services.store.store import Store

JOB = ingest_job_pb2.IngestJob
CANCEL_S = 2.0


class _Endless:
    """Work that ends only when somebody ends it, and that writes nothing of how far it is."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def ingest(self, pipeline: Pipeline, job: IngestJob, *given: object) -> Commit:
        self.begun.set()
        try:
            await asyncio.sleep(3_600)
        finally:
            self.ended.set()
        raise AssertionError("nobody ended it")


def _call() -> Call:
    return Call("one", "test", deadline_s=time.monotonic() + 20)


@pytest.mark.parametrize("how", ["cancel", "reindex", "delete"])
async def test_work_on_another_node_ends_within_two_seconds(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async with store.transaction("one") as tx:
        spec = CollectionSpec(dimensions=4, embedding_model="embeddingModels/m")
        await create_collection(tx, "c", spec)
    work = _Endless()
    monkeypatch.setattr(Pipeline, "_ingest", lambda *given: work.ingest(*given))
    settings, mesh = DocumentSettings(workers=1), cast(Mesh, None)
    nodes = [
        DocumentServicer(settings, store, mesh, name, DirectoryStore(tmp_path / "files"))
        for name in ("worker", "other")
    ]
    worker, other = nodes
    try:
        request = pb.CreateDocumentRequest(parent="collections/c", document_id="d", text="Rain.")
        job = (await other.CreateDocument(request, _call())).ingest_job
        await worker.start()
        async with asyncio.timeout(10):
            await work.begun.wait()
        document = "collections/c/documents/d"
        begun_s = time.monotonic()
        if how == "cancel":
            ended = await other.CancelIngestJob(pb.CancelIngestJobRequest(name=job.name), _call())
            assert ended.ingest_job.state == JOB.STATE_CANCELLED
        elif how == "reindex":
            await other.ReindexDocument(pb.ReindexDocumentRequest(name=document), _call())
        else:
            await other.DeleteDocument(pb.DeleteDocumentRequest(name=document), _call())
        async with asyncio.timeout(10):
            await work.ended.wait()
        assert time.monotonic() - begun_s < CANCEL_S
        found = await other.GetIngestJob(pb.GetIngestJobRequest(name=job.name), _call())
        assert found.ingest_job.state == JOB.STATE_CANCELLED
    finally:
        for node in nodes:
            await node.close()
