"""Bad requests about migrations."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.bad_requests import INF, NAN, Bad, Table, World, named

ABSENT = "collections/absent"


def _start(world: World) -> Iterator[Bad]:
    make = partial(pb.StartMigrationRequest, collection=world.vectors)
    graph = collection_pb2.HnswSettings
    yield from named(lambda n: pb.StartMigrationRequest(collection=n), "collections/{}")
    absent = pb.StartMigrationRequest(collection=ABSENT, hnsw=graph(m=8))
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("nothing would change", make())
    yield Bad("the present graph", make(hnsw=graph(m=16)))
    yield Bad("m below 2", make(hnsw=graph(m=1)))
    yield Bad("m over 100", make(hnsw=graph(m=101)))
    yield Bad("ef_construction below 8", make(hnsw=graph(ef_construction=7)))
    yield Bad("ef_construction over 2,000", make(hnsw=graph(ef_construction=2_001)))
    yield Bad("ef_search below 0", make(hnsw=graph(ef_search=-1)))
    yield Bad("model of the wrong form", make(embedding_model="MiniLM"))
    unknown = make(embedding_model="embeddingModels/absent")
    yield Bad("model unknown", unknown, "EMBEDDING_MODEL_NOT_FOUND")
    bare = make(embedding_model="embeddingModels/default")
    yield Bad("a point without text", bare, "MIGRATION_NOT_READY")
    again = pb.StartMigrationRequest(collection=world.migrating, hnsw=graph(m=9))
    yield Bad("one goes on", again, "MIGRATION_EXISTS")


def _named(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from named(lambda n: kind(collection=n), "collections/{}")
    yield Bad("collection unknown", kind(collection=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("no migration", kind(collection=world.texts), "MIGRATION_NOT_FOUND")


def _flip(world: World) -> Iterator[Bad]:
    make = partial(pb.FlipMigrationRequest, collection=world.migrating)
    yield from _named(pb.FlipMigrationRequest, world)
    yield Bad("overlap_min below 0", make(overlap_min=-0.1))
    yield Bad("overlap_min over 1", make(overlap_min=1.1))
    yield Bad("overlap_min infinite", make(overlap_min=INF))
    yield Bad("overlap_min no number", make(overlap_min=NAN))


TABLE: Table = {
    "StartMigration": _start,
    "GetMigration": partial(_named, pb.GetMigrationRequest),
    "FlipMigration": _flip,
    "EndMigration": partial(_named, pb.EndMigrationRequest),
}
