"""Migrations: what is asked goes out, and what is answered comes back whole."""

from __future__ import annotations

import datetime

import pytest
import ragmesh
from google.protobuf.timestamp_pb2 import Timestamp
from ragmesh.api.retrieval.v1 import collection_pb2, migration_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer

NAME = "collections/papers"
MESSAGE = migration_pb2.Migration(
    collection=NAME,
    state=migration_pb2.Migration.STATE_READY,
    problem="none",
    embedding_model="embeddingModels/large",
    fingerprint="print",
    dimensions=768,
    hnsw=collection_pb2.HnswSettings(m=8, ef_construction=50, ef_search=60),
    points=10,
    points_left=3,
    watermark="7",
    queries=32,
    overlap=0.5,
    recall_before=0.75,
    recall_after=1.0,
    create_time=Timestamp(seconds=60),
)


async def test_a_migration_comes_back_whole(client: EitherClient, script: ScriptedServer) -> None:
    script.on("GetMigration", pb.GetMigrationResponse(migration=MESSAGE))
    assert await client.call("get_migration", "papers") == ragmesh.Migration(
        collection=NAME,
        state="ready",
        problem="none",
        embedding_model="embeddingModels/large",
        fingerprint="print",
        dimensions=768,
        hnsw=ragmesh.HnswSettings(8, 50, 60),
        points=10,
        points_left=3,
        watermark="7",
        queries=32,
        overlap=0.5,
        recall_before=0.75,
        recall_after=1.0,
        create_time=datetime.datetime.fromtimestamp(60, datetime.UTC),
    )
    (request,) = script.requests("GetMigration")
    assert request.collection == NAME


async def test_what_is_asked_goes_out(client: EitherClient, script: ScriptedServer) -> None:
    script.on("StartMigration", pb.StartMigrationResponse(migration=MESSAGE))
    script.on("FlipMigration", pb.FlipMigrationResponse(migration=MESSAGE))
    ended = pb.EndMigrationResponse(collection=collection_pb2.Collection(name=NAME))
    script.on("EndMigration", ended)
    graph = ragmesh.HnswSettings(8, 0, 0)
    await client.call("start_migration", "papers", embedding_model="large", hnsw=graph)
    await client.call("flip_migration", NAME, roll_back=True, overlap_min=0.25)
    assert (await client.call("end_migration", "papers")).name == NAME
    (start,), (flip,) = script.requests("StartMigration"), script.requests("FlipMigration")
    assert (start.collection, start.embedding_model) == (NAME, "embeddingModels/large")
    assert (start.hnsw.m, start.hnsw.ef_construction) == (8, 0)
    assert (flip.collection, flip.roll_back, flip.overlap_min) == (NAME, True, 0.25)


@pytest.mark.parametrize(
    "reason", ["MIGRATION_NOT_FOUND", "MIGRATION_EXISTS", "MIGRATION_NOT_READY"]
)
def test_each_refusal_has_a_class(reason: str) -> None:
    name = "".join(part.title() for part in reason.split("_"))
    assert getattr(ragmesh, name).reason == reason
