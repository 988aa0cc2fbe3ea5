"""A Ray Data job ingests what waits in a collection, as nodes would."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from json import loads
from pathlib import Path

import pytest
from ragmesh import AsyncClient

from services.app import Node
from services.config import (
    ModelSettings,
    NodeSettings,
    RaySettings,
    Settings,
    StoreSettings,
    to_environment,
)
from services.documents.pipeline import Pipeline
from services.store.store import Store
from tests.faults.ray_cluster import RayCluster
from tests.services.commands.command_line import failure, run
from tests.services.ray.ray_mesh import MODELS
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
async def test_jobs_ingest_a_folder_beside_nodes_and_say_what_failed(
    store: Store,
    database: Database,
    cluster: RayCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The node takes documents and never begins to ingest them: the cluster has all the work.
    monkeypatch.setattr(Pipeline, "start", lambda pipeline: None)
    settings = Settings(
        data_dir=tmp_path / "data",
        store=StoreSettings.model_validate({"postgres_url": database.url}),
        node=NodeSettings(
            services=("embedding", "retrieval", "documents"),
            listen="127.0.0.1:0",
            metrics_listen="",
        ),
        models=ModelSettings(cache_dir=MODELS),
        ray=RaySettings(token_file=cluster.token),
    )
    folder = tmp_path / "papers"
    folder.mkdir()
    for number in range(DOCUMENTS):
        text = f"Paper {number} is about subject {number}. It cites paper {number + 1}."
        (folder / f"p{number}.txt").write_text(text)
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    node = Node(settings)
    await node.open()
    await node.serve()
    try:
        said = await asyncio.to_thread(
            run,
            tmp_path,
            *("ingest", str(folder), "-c", "papers", "--address", node.address, "--json"),
            *("--ray", cluster.address, "--ray-actors", "1", "--ray-cpus", "0.5"),
            variables=to_environment(settings),
            timeout_s=JOB_S,
        )
        assert said.returncode == 1, said.stderr  # one failed
        done = loads(said.stdout.splitlines()[-1])
        assert (done["event"], done["ingested"], done["failed"]) == ("done", DOCUMENTS, 1)
        async with AsyncClient(node.address) as client:
            found = await client.search_collection("papers", "subject 17", limit=1)
            assert found.hits[0].point.text.startswith("Paper 17 ")
            count = await client.count_points("papers")
            assert count.count == DOCUMENTS
        async with store.system() as tx:
            assert await tx.rows("SELECT id FROM ingest_jobs WHERE state = 'running'") == []
    finally:
        await node.drain()
        await node.close()


def test_a_job_without_a_database_says_what_it_needs(tmp_path: Path) -> None:
    error = failure(
        run(tmp_path, "ingest", str(tmp_path), "-c", "papers", "--ray", "host:1", "--json")
    )
    assert "--postgres-url" in error["message"]
