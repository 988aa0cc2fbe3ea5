"""A Ray Data job ingests what waits in a collection, as nodes would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from json import loads
from pathlib import Path
from typing import cast

import pytest
from ragmesh import AsyncClient
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from services.app import Node
from services.config import (
    ModelSettings,
    NodeSettings,
    RaySettings,
    Settings,
    StoreSettings,
    to_environment,
)
from services.documents.servicer import DocumentServicer
from services.local.ray_parts import driver_environment
from services.mesh.mesh import Mesh
from services.objects.opening import open_objects
from services.store.store import Store
from tests.faults.ray_cluster import RayCluster
from tests.services.commands.command_line import run
from tests.services.ray.ray_mesh import MODELS
from tests.services.retrieval.lives import a_call
from tests.services.store.stored import Database

JOB_S = 300.0
DOCUMENTS = 40


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    started = RayCluster(tmp_path / "cluster")
    try:
        started.start(worker=False)
        yield started
    finally:
        started.stop()


@pytest.mark.timeout(600)
async def test_a_job_ingests_what_waits_and_says_what_it_left(
    store: Store, database: Database, cluster: RayCluster, tmp_path: Path
) -> None:
    settings = Settings(
        data_dir=tmp_path / "data",
        store=StoreSettings.model_validate({"postgres_url": database.url}),
        node=NodeSettings(
            services=("embedding", "retrieval"), listen="127.0.0.1:0", metrics_listen=""
        ),
        models=ModelSettings(cache_dir=MODELS),
        ray=RaySettings(token_file=cluster.token),
    )
    node = Node(settings)
    await node.open()
    await node.serve()
    # It takes documents, and never begins to ingest them.
    objects = open_objects(settings, "files")
    taking = DocumentServicer(settings.documents, store, cast(Mesh, None), "nobody", objects)
    try:
        async with AsyncClient(node.address) as client:
            await client.create_collection("papers")
            for number in range(DOCUMENTS):
                text = f"Paper {number} is about subject {number}. It cites paper {number + 1}."
                await taking.CreateDocument(_asked(f"p{number}", text.encode()), a_call())
            await taking.CreateDocument(_asked("broken", b"%PDF-1.7 nothing"), a_call())
            said = await asyncio.to_thread(
                run,
                tmp_path,
                *("ray", "ingest", "papers", "--address", cluster.address),
                *("--actors", "1", "--cpus", "0.5", "--json"),
                variables={
                    **to_environment(settings),
                    **driver_environment(settings),
                },
                timeout_s=JOB_S,
            )
            assert loads(said.stdout.splitlines()[-1])["ingested"] == {
                "published": DOCUMENTS,
                "left": 1,
            }
            found = await client.search_collection("papers", "subject 17", limit=1)
            assert found.hits[0].point.text.startswith("Paper 17 ")
        async with store.system() as tx:
            states = await tx.rows("SELECT state, count(*) FROM documents GROUP BY 1 ORDER BY 1")
            assert states == [("active", DOCUMENTS), ("failed", 1)]
            assert await tx.rows("SELECT id FROM ingest_jobs WHERE state = 'running'") == []
    finally:
        await taking.close()
        await node.drain()
        await node.close()


def _asked(document_id: str, data: bytes) -> pb.CreateDocumentRequest:
    return pb.CreateDocumentRequest(parent="collections/papers", document_id=document_id, data=data)
