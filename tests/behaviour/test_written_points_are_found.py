"""What was acknowledged is found: by search, by id, in lists and in counts; what was replaced or
deleted is not."""

from __future__ import annotations

import pytest
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, equals, new_id, packed, point, unpacked, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(40)


async def ids_found(rung: Rung, collection: str, vector: int, watermark: str) -> list[str]:
    request = pb.SearchCollectionRequest(
        collection=collection, vector=packed(ROWS[vector]), limit=100, min_watermark=watermark
    )
    response = await rung.call("SearchCollection", request)
    return [hit.point.id for hit in response.hits]


async def count(rung: Rung, collection: str, watermark: str) -> int:
    request = pb.CountPointsRequest(collection=collection, min_watermark=watermark)
    return int((await rung.call("CountPoints", request)).count)


async def test_points_are_in_every_reading_from_their_watermark_on(
    rung: Rung, given: Given
) -> None:
    collection = await given.vector_collection()
    written = [point(f"p{i:02}", ROWS[i], f"text {i}", number=i) for i in range(20)]
    watermark = await given.points(collection, written)
    assert sorted(await ids_found(rung, collection, 3, watermark)) == [p.id for p in written]
    assert (await ids_found(rung, collection, 3, watermark))[0] == "p03"
    assert await count(rung, collection, watermark) == 20
    asked = ["p07", "absent", "p01"]
    request = pb.GetPointsRequest(
        collection=collection, ids=asked, include_vectors=True, min_watermark=watermark
    )
    got = (await rung.call("GetPoints", request)).points
    assert [p.id for p in got] == ["p07", "p01"]
    assert got[0].text == "text 7"
    assert dict(got[0].payload) == {"number": 7}
    assert unpacked(got[0].vector) == pytest.approx(ROWS[7], abs=1e-6)
    listed = await rung.call(
        "ListPoints", pb.ListPointsRequest(collection=collection, min_watermark=watermark)
    )
    assert [p.id for p in listed.points] == [p.id for p in written]


async def test_waiting_writes_are_found_without_asking_for_a_watermark(
    rung: Rung, given: Given
) -> None:
    # With `wait`, on the node that took the write: through a mesh of several, by watermark.
    collection = await given.vector_collection()
    for i in range(5):
        watermark = await given.points(collection, [point(f"p{i}", ROWS[i])], wait=True)
        least = "" if rung.name in ("process", "grpc") else watermark
        assert f"p{i}" in await ids_found(rung, collection, i, least)


async def test_the_watermark_header_is_as_good_as_the_field(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    for i in range(5):
        watermark = await given.points(collection, [point(f"p{i}", ROWS[i])])
        response = await rung.call(
            "CountPoints",
            pb.CountPointsRequest(collection=collection),
            headers={"x-ragmesh-watermark": watermark},
        )
        assert response.count == i + 1
        assert int(response.watermark) >= int(watermark)


async def test_a_point_replaces_the_one_with_its_id(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    await given.points(collection, [point("a", ROWS[0], "old", kind="old"), point("b", ROWS[1])])
    twice = [point("a", ROWS[2], "in between"), point("a", ROWS[3], "new", kind="new")]
    request = pb.UpsertPointsRequest(collection=collection, points=twice)
    response = await rung.call("UpsertPoints", request)
    assert response.upserted == 1
    got = await rung.call(
        "GetPoints",
        pb.GetPointsRequest(
            collection=collection,
            ids=["a"],
            include_vectors=True,
            min_watermark=response.watermark,
        ),
    )
    assert [(p.text, dict(p.payload)) for p in got.points] == [("new", {"kind": "new"})]
    assert unpacked(got.points[0].vector) == pytest.approx(ROWS[3], abs=1e-6)
    assert await count(rung, collection, response.watermark) == 2
    assert (await ids_found(rung, collection, 3, response.watermark))[0] == "a"


async def test_deleted_points_are_gone_by_id_and_by_filter(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    written = [point(f"p{i}", ROWS[i], parity=i % 2) for i in range(10)]
    await given.points(collection, written)
    request = pb.DeletePointsRequest(collection=collection, ids=["p0", "p1", "absent"])
    by_id = await rung.call("DeletePoints", request)
    assert by_id.deleted == 2
    assert await count(rung, collection, by_id.watermark) == 8
    by_filter = await rung.call(
        "DeletePoints",
        pb.DeletePointsRequest(collection=collection, filter=equals("parity", 1)),
        headers={"x-ragmesh-watermark": by_id.watermark},
    )
    assert by_filter.deleted == 4
    left = await ids_found(rung, collection, 2, by_filter.watermark)
    assert sorted(left) == ["p2", "p4", "p6", "p8"]
    again = await rung.call(
        "DeletePoints", pb.DeletePointsRequest(collection=collection, ids=["p0"])
    )
    assert (again.deleted, again.watermark) == (0, by_filter.watermark)


async def test_a_batch_with_one_bad_point_writes_nothing(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    watermark = await given.points(collection, [point("a", ROWS[0], "kept")])
    batch = [point("a", ROWS[1], "new"), point("b", vectors(1, 5)[0])]
    with pytest.raises(Refused) as refused:
        await given.points(collection, batch)
    assert refused.value.reason == "DIMENSION_MISMATCH"
    stats = await rung.call(
        "GetCollectionStats",
        pb.GetCollectionStatsRequest(name=collection),
        headers={"x-ragmesh-watermark": watermark},
    )
    assert stats.watermark == watermark
    got = await rung.call(
        "GetPoints",
        pb.GetPointsRequest(collection=collection, ids=["a", "b"], min_watermark=watermark),
    )
    assert [(p.id, p.text) for p in got.points] == [("a", "kept")]


async def test_texts_without_vectors_are_embedded_and_found_by_meaning(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    texts = {
        "cat": "A kitten sleeps on the sofa all day.",
        "bank": "The central bank raised interest rates again.",
        "sea": "Waves broke over the pier during the storm.",
    }
    watermark = await given.points(collection, [point(i, text=t) for i, t in texts.items()])
    for text, wanted in [("pets resting at home", "cat"), ("monetary policy", "bank")]:
        response = await rung.call(
            "SearchCollection",
            pb.SearchCollectionRequest(
                collection=collection,
                text=text,
                mode=pb.SEARCH_MODE_DENSE,
                min_watermark=watermark,
                include_sentences=True,
            ),
        )
        best = response.hits[0].point
        assert best.id == wanted
        spans = [best.text[s.span.start : s.span.end] for s in best.sentences]
        assert spans == [texts[wanted]]


async def test_collections_live_from_creation_to_deletion(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection(display_name="First")
    await given.points(collection, [point("a", ROWS[0])])
    got = await rung.call("GetCollection", pb.GetCollectionRequest(name=collection))
    assert (got.collection.display_name, got.collection.dimensions) == ("First", 8)
    change = pb.UpdateCollectionRequest()
    change.collection.name = collection
    change.collection.display_name = "Second"
    change.collection.hnsw.ef_search = 99
    change.update_mask.paths.append("display_name")
    await rung.call("UpdateCollection", change)
    got = await rung.call("GetCollection", pb.GetCollectionRequest(name=collection))
    assert got.collection.display_name == "Second"
    assert got.collection.hnsw.ef_search == 64, "the mask named only display_name"
    await rung.call("DeleteCollection", pb.DeleteCollectionRequest(name=collection))
    for rpc, request in [
        ("GetCollection", pb.GetCollectionRequest(name=collection)),
        ("DeleteCollection", pb.DeleteCollectionRequest(name=collection)),
        (
            "UpsertPoints",
            pb.UpsertPointsRequest(collection=collection, points=[point("a", ROWS[0])]),
        ),
    ]:
        with pytest.raises(Refused) as refused:
            await rung.call(rpc, request)
        assert (refused.value.code, refused.value.reason) == ("NOT_FOUND", "COLLECTION_NOT_FOUND")


async def test_a_name_that_is_used_again_works_at_once(rung: Rung, given: Given) -> None:
    # On every node, also on those that remember what the name meant before.
    collection_id = new_id()
    name = f"collections/{collection_id}"
    for generation in range(8):
        dimensions = 4 + generation
        create = pb.CreateCollectionRequest(collection_id=collection_id)
        create.collection.dimensions = dimensions
        await rung.call("CreateCollection", create)
        rows = vectors(2, dimensions)
        for i, row in enumerate(rows):
            watermark = await given.points(name, [point(f"g{generation}-{i}", row)])
        request = pb.SearchCollectionRequest(
            collection=name, vector=packed(rows[0]), min_watermark=watermark
        )
        for _ in range(2):
            found = await rung.call("SearchCollection", request)
            assert [h.point.id for h in found.hits] == [f"g{generation}-0", f"g{generation}-1"]
        await rung.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))


async def test_a_collection_made_anew_has_nothing_of_the_old_one(rung: Rung, given: Given) -> None:
    collection_id = new_id()
    create = pb.CreateCollectionRequest(collection_id=collection_id)
    create.collection.dimensions = 8
    name = (await rung.call("CreateCollection", create)).collection.name
    await given.points(name, [point("old", ROWS[0])])
    await rung.call("DeleteCollection", pb.DeleteCollectionRequest(name=name))
    await rung.call("CreateCollection", create)
    watermark = await given.points(name, [point("new", ROWS[1])])
    assert await ids_found(rung, name, 0, watermark) == ["new"]
    with pytest.raises(Refused) as refused:
        await rung.call("CreateCollection", create)
    assert refused.value.reason == "COLLECTION_EXISTS"
