"""What a node does by itself survives what it did not expect, and callers who wait for it are told
how it ends."""

from __future__ import annotations

import asyncio
import time

import psycopg
import pytest
import ragmesh
from ragmesh import Point

from tests.faults.faulty_mesh import NODES, FaultyMesh

TABLES = ("heads", "ingest_jobs")
WRONG_S = 1.0
RECOVERY_S = 10.0


async def test_a_database_that_is_wrong_for_a_moment_ends_no_background_work(
    mesh: FaultyMesh,
) -> None:
    """As while somebody restores it by hand: the tables that are looked at all the time are
    not there."""
    async with mesh.client() as client:
        await client.create_collection("background")
        await client.upsert_points("background", [Point("before", text="before")], wait=True)
    async with await psycopg.AsyncConnection.connect(
        mesh.local.postgres_url, autocommit=True
    ) as connection:
        for table in TABLES:
            await connection.execute(f"ALTER TABLE {table} RENAME TO {table}_away".encode())
        await asyncio.sleep(WRONG_S)
        for table in TABLES:
            await connection.execute(f"ALTER TABLE {table}_away RENAME TO {table}".encode())
    for number, name in enumerate(NODES):
        async with mesh.client(name, timeout_s=RECOVERY_S) as client:
            await client.upsert_points("background", [Point(name, text="after")], wait=True)
            stored = await client.create_document("background", text=f"Sentence {number}.")
            await client.wait_for_ingest_job(stored.ingest_job.name, timeout_s=RECOVERY_S)


async def test_who_waits_for_a_collection_that_is_deleted_is_told_so(mesh: FaultyMesh) -> None:
    async with mesh.client("node-1") as client, mesh.client("node-2") as other:
        await client.create_collection("deleted", dimensions=2)
        written = await client.upsert_points("deleted", [Point("only", [1, 0])], wait=True)
        never = str(int(written.watermark) + 1000)
        waiting = asyncio.create_task(
            client.search_collection("deleted", vector=[1, 0], min_watermark=never, timeout_s=15)
        )
        await asyncio.sleep(0.2)
        assert not waiting.done()
        begin_s = time.monotonic()
        await other.delete_collection("deleted")
        with pytest.raises(ragmesh.CollectionNotFound):
            await waiting
        assert time.monotonic() - begin_s < 5
