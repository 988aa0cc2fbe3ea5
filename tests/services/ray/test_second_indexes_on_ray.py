"""A Ray Data job fills a collection's second index as a node would, and a node goes on with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from ragmesh import AsyncClient, Point

from services.app import Node
from services.config import ModelSettings, NodeSettings, Settings, StoreSettings
from services.store.store import Store
from tests.faults.ray_cluster import RayCluster
from tests.services.commands.command_line import failure, result, run
from tests.services.ray.ray_mesh import MODELS
from tests.services.store.stored import Database

JOB_S = 300.0
"""Of a job on a machine that does other things."""

TEXTS = {f"p{n:03d}": f"Paper {n} is about subject {n % 7}." for n in range(600)}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RayCluster]:
    started = RayCluster(tmp_path / "cluster")
    try:
        started.start(worker=False)
        yield started
    finally:
        started.stop()


@pytest.mark.timeout(600)
async def test_a_job_fills_the_index_and_a_node_goes_on(
    store: Store, database: Database, cluster: RayCluster, tmp_path: Path
) -> None:
    settings = StoreSettings.model_validate({"postgres_url": database.url})
    node = Node(
        Settings(
            data_dir=tmp_path / "data",
            store=settings,
            node=NodeSettings(
                services=("embedding", "retrieval"), listen="127.0.0.1:0", metrics_listen=""
            ),
            models=ModelSettings(cache_dir=MODELS),
        )
    )
    await node.open()
    await node.serve()
    try:
        async with AsyncClient(node.address) as client:
            await client.create_collection("papers", dimensions=2)
            rows = np.random.default_rng(3).normal(size=(len(TEXTS), 2)).astype(np.float32)
            points = [Point(id, row, text=TEXTS[id]) for id, row in zip(TEXTS, rows, strict=True)]
            await client.upsert_points("papers", points[:500])
            await client.upsert_points("papers", points[500:])
            await client.delete_points("papers", ["p000"])
            # Nobody mirrors until the job takes the lease.
            async with store.system() as tx:
                await tx.run(
                    "ALTER TABLE index_migrations ALTER lease_owner SET DEFAULT 'nobody', "
                    "ALTER lease_until SET DEFAULT 'infinity'"
                )
            await client.start_migration("papers", embedding_model="default")
            said = await asyncio.to_thread(
                run,
                tmp_path,
                *("collections", "reembed", "papers", "--json"),
                *("--ray", cluster.address, "--ray-actors", "1"),
                *("--postgres-url", database.url, "--address", node.address),
                variables={"RAGMESH_RAY__TOKEN_FILE": str(cluster.token)},
                timeout_s=JOB_S,
            )
            found = result(said)
            assert found["ray"] == {"points": 599, "ranges": 2}
            assert (found["state"], found["points_left"]) == ("ready", 0)
            await client.upsert_points("papers", [Point("late", [1, 0], text="A late one.")])
            flipped = await client.flip_migration("papers")
            assert flipped.state == "flipped"
            listed = client.list_points("papers", include_vectors=True)
            held = {point.id: point async for point in listed}
            wanted = {id: text for id, text in TEXTS.items() if id != "p000"}
            assert {id: p.text for id, p in held.items()} == wanted | {"late": "A late one."}
            ids = ["p001", "p300", "p599", "late"]
            made = await client.embed_texts([held[id].text for id in ids], input_kind="passage")
            found_rows = np.array([held[id].vector for id in ids], np.float32)
            np.testing.assert_allclose(found_rows, np.array(made.vectors), atol=1e-5)
    finally:
        await node.drain()
        await node.close()


def test_a_job_without_a_database_says_what_it_needs(tmp_path: Path) -> None:
    error = failure(run(tmp_path, "collections", "reembed", "papers", "--ray", "host:1", "--json"))
    assert "--postgres-url" in error["message"]
