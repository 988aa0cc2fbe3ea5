"""A collection's embedding model and graph can be changed while it is used: a second index takes
over, and gives back."""

from __future__ import annotations

from ragmesh.api.retrieval.v1 import collection_pb2, migration_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, point, vectors
from tests.behaviour.rungs import Rung

State = migration_pb2.Migration.State
MODEL = "embeddingModels/default"


async def flipped(rung: Rung, collection: str, *, back: bool = False) -> migration_pb2.Migration:
    request = pb.FlipMigrationRequest(collection=collection, roll_back=back)
    found: migration_pb2.Migration = (await rung.call("FlipMigration", request)).migration
    return found


async def listed(rung: Rung, collection: str, watermark: str) -> dict[str, int]:
    """Texts of all points by id, or lengths of vectors where they have none."""
    request = pb.ListPointsRequest(
        collection=collection, page_size=1_000, include_vectors=True, min_watermark=watermark
    )
    points = (await rung.call("ListPoints", request)).points
    return {one.id: len(one.vector.packed) // 4 for one in points}


async def test_own_vectors_give_way_to_a_model_and_come_back(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    rows = vectors(20)
    said = [f"The {word} is in the house." for word in ("cat", "dog", "bird", "horse")]
    await given.points(
        collection, [point(f"{n:02}", row, said[n % 4]) for n, row in enumerate(rows)]
    )
    start = pb.StartMigrationRequest(collection=collection, embedding_model=MODEL)
    begun = (await rung.call("StartMigration", start)).migration
    assert begun.dimensions == 384
    ready = await given.ready(collection)
    assert (ready.points, ready.points_left, ready.problem) == (20, 0, "")
    assert (await flipped(rung, collection)).state == State.STATE_FLIPPED
    mark = await given.points(collection, [point("new", text="A whale swims in the sea.")])
    assert await listed(rung, collection, mark) == dict.fromkeys(
        [f"{n:02}" for n in range(20)] + ["new"], 384
    )
    search = pb.SearchCollectionRequest(
        collection=collection, text="A whale in the sea", limit=1, min_watermark=mark
    )
    assert (await rung.call("SearchCollection", search)).hits[0].point.id == "new"
    gone = pb.DeletePointsRequest(collection=collection, ids=["new"])
    mark = (await rung.call("DeletePoints", gone)).watermark
    back = await flipped(rung, collection, back=True)
    assert back.state == State.STATE_READY and int(back.watermark) > int(mark)
    assert await listed(rung, collection, back.watermark) == {f"{n:02}": 8 for n in range(20)}
    ended = await rung.call("EndMigration", pb.EndMigrationRequest(collection=collection))
    assert ended.collection.dimensions == 8


async def test_documents_keep_their_passages(rung: Rung, given: Given) -> None:
    collection = await given.text_collection()
    text = "Rain fell on the town all night. In the morning the streets were dry."
    document, _ = await given.ingested(collection, text, "rain.txt")
    kept = await given.snapshot(collection)
    start = pb.StartMigrationRequest(
        collection=collection, hnsw=collection_pb2.HnswSettings(m=8, ef_construction=50)
    )
    await rung.call("StartMigration", start)
    await given.ready(collection)
    migrated = await flipped(rung, collection)
    flip_mark = int(migrated.watermark)
    assert (migrated.overlap, migrated.hnsw.m) == (1, 8)
    snow, mark = await given.ingested(collection, "Snow fell on the hills.", "snow.txt")
    assert int(mark) > flip_mark
    search = pb.SearchCollectionRequest(
        collection=collection, text="wet weather in a town", limit=1, min_watermark=mark
    )
    hit = (await rung.call("SearchCollection", search)).hits[0].point
    assert (hit.document, hit.span.end) == (document.name, len(text))
    await rung.call("EndMigration", pb.EndMigrationRequest(collection=collection))
    again = await rung.call("SearchCollection", search)
    assert again.hits[0].point == hit
    snapshots = await rung.call("ListSnapshots", pb.ListSnapshotsRequest(parent=collection))
    assert [one.name for one in snapshots.snapshots] == [kept]
    got = await rung.call("GetCollection", pb.GetCollectionRequest(name=collection))
    assert got.collection.hnsw.ef_construction == 50
    assert snow.name.startswith(collection)
