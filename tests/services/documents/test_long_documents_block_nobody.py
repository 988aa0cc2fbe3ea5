"""A node that has just started begins with one document, and does not wait for it to end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import cast

import pytest

from services.config import DocumentSettings
from services.documents import pipeline as module
from services.documents.files import Files
from services.documents.pipeline import Pipeline
from services.mesh.mesh import Mesh
from services.objects.directory import DirectoryStore
from services.store.jobs import IngestJob
from services.store.points import Commit
from services.store.store import Store
from tests.services.store.publishing import create
from tests.services.store.stored import make_collection


async def test_others_are_begun_while_a_long_one_goes_on(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RAMP_S", 0.2)
    begun: list[str] = []

    async def for_ever(self: Pipeline, job: IngestJob, *given: object) -> Commit:
        begun.append(job.document_id)
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(Pipeline, "_ingest", for_ever)
    collection = await make_collection(store, "one", "c")
    names = [f"d{number}" for number in range(5)]
    for name in names:
        await create(store, collection, name)
    files = Files(store, DirectoryStore(tmp_path / "files"))
    settings = DocumentSettings(workers=3)
    pipeline = Pipeline(settings, store, cast(Mesh, None), "node", files)
    pipeline.start()
    async with asyncio.timeout(20):
        while len(begun) < 3:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.6)
    assert begun == names[:3]  # and no more than may be
    await pipeline.stop()
    await files.close()
