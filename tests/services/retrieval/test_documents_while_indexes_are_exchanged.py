"""What becomes of documents that are written and deleted while indexes are exchanged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import cast

import pytest
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.errors import DocumentNotFound
from services.config import DocumentSettings
from services.documents.files import Files
from services.documents.pipeline import Pipeline
from services.documents.servicer import DocumentServicer
from services.mesh.mesh import Mesh
from services.objects.directory import DirectoryStore
from services.store import sharing
from services.store.collections import get_collection
from services.store.jobs import IngestJob, claim_jobs
from services.store.points import Commit, apply_batch
from services.store.store import Store, Tx
from tests.services.retrieval.lives import LivingNode, a_call
from tests.services.retrieval.second_index import NAME, flip, start, until_ready


@pytest.fixture
async def servicer(store: Store, node: LivingNode) -> AsyncIterator[DocumentServicer]:
    """Documents, of which one waits to be ingested, while a second index is ready."""
    await start(node)
    await until_ready(node)
    objects = DirectoryStore(node.objects / "files")
    servicer = DocumentServicer(DocumentSettings(), store, cast(Mesh, None), "one", objects)
    request = pb.CreateDocumentRequest(parent=NAME, document_id="rain", text="Rain fell.")
    await servicer.CreateDocument(request, a_call())
    yield servicer
    await servicer.close()


async def test_a_document_is_deleted_although_another_index_takes_over(
    store: Store, node: LivingNode, servicer: DocumentServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = sharing.release
    turns: list[int] = []

    async def exchanged(tx: Tx, gone: list[sharing.Shares]) -> None:
        await release(tx, gone)
        turns.append(1)
        if len(turns) == 1:
            await flip(node)

    monkeypatch.setattr(sharing, "release", exchanged)
    name = f"{NAME}/documents/rain"
    await servicer.DeleteDocument(pb.DeleteDocumentRequest(name=name), a_call())
    assert len(turns) == 2
    with pytest.raises(DocumentNotFound):
        await servicer.GetDocument(pb.GetDocumentRequest(name=name), a_call())


async def test_a_document_that_was_made_for_the_old_index_is_made_for_the_new_one_at_once(
    store: Store, node: LivingNode, servicer: DocumentServicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after the lease of whoever had it."""
    async with store.transaction("default") as tx:
        before = await get_collection(tx, "papers")

    async def ingest(self: Pipeline, job: IngestJob, *given: object) -> Commit:
        await flip(node)
        async with store.transaction("default") as tx:
            return await apply_batch(tx, before)

    monkeypatch.setattr(Pipeline, "_ingest", ingest)
    files = Files(store, DirectoryStore(node.objects / "files"))
    pipeline = Pipeline(DocumentSettings(), store, cast(Mesh, None), "one", files)
    async with store.system() as tx:
        (job,) = await claim_jobs(tx, "one", lease_s=60, limit=1)
    await pipeline._run(job)
    async with store.system() as tx:
        (again,) = await claim_jobs(tx, "two", lease_s=60, limit=1)
    assert again.id == job.id
    await pipeline.stop()
    await files.close()
