"""What callers see of a collection that keeps its vectors as float16 or int8."""

from __future__ import annotations

import numpy as np
import pytest
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, dense, new_id, packed, point, unpacked, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

ROWS = vectors(40)
FLOAT32 = collection_pb2.VECTOR_STORAGE_FLOAT32
KINDS = [collection_pb2.VECTOR_STORAGE_FLOAT16, collection_pb2.VECTOR_STORAGE_INT8]
DOT = collection_pb2.METRIC_DOT
EUCLIDEAN = collection_pb2.METRIC_EUCLIDEAN


async def made(
    rung: Rung,
    metric: collection_pb2.Metric.ValueType,
    storage: collection_pb2.VectorStorage.ValueType,
) -> str:
    collection = collection_pb2.Collection(dimensions=8, metric=metric, vector_storage=storage)
    request = pb.CreateCollectionRequest(collection=collection, collection_id=new_id())
    response = await rung.call("CreateCollection", request)
    assert response.collection.vector_storage == (storage or FLOAT32)
    return str(response.collection.name)


async def change(rung: Rung, name: str, storage: collection_pb2.VectorStorage.ValueType) -> None:
    request = pb.UpdateCollectionRequest(
        collection=collection_pb2.Collection(name=name, vector_storage=storage)
    )
    response = await rung.call("UpdateCollection", request)
    assert response.collection.vector_storage == storage


async def stored(rung: Rung, name: str) -> int:
    got = await rung.call("GetCollection", pb.GetCollectionRequest(name=name))
    return int(got.collection.vector_storage)


async def test_scores_and_vectors_are_of_what_is_kept(rung: Rung, given: Given) -> None:
    half = ROWS.astype(np.float16).astype(np.float32)
    for storage in (collection_pb2.VECTOR_STORAGE_UNSPECIFIED, FLOAT32, *KINDS):
        name = await made(rung, DOT, storage)
        watermark = await given.points(name, [point(f"p{n}", row) for n, row in enumerate(ROWS)])
        found = await rung.call(
            "SearchCollection",
            pb.SearchCollectionRequest(
                collection=name,
                vector=packed(ROWS[3]),
                limit=40,
                include_vectors=True,
                min_watermark=watermark,
            ),
        )
        kept = half if storage in KINDS else ROWS
        assert len(found.hits) == 40
        for hit in found.hits:
            row = kept[int(hit.point.id[1:])]
            assert np.array_equal(unpacked(hit.point.vector), row)
            assert hit.score == pytest.approx(float(row @ ROWS[3]), abs=1e-5)


async def test_a_collection_can_change_its_mind_and_has_its_values_back(
    rung: Rung, given: Given
) -> None:
    name = await made(rung, DOT, FLOAT32)
    await given.points(name, [point(f"p{n}", row) for n, row in enumerate(ROWS)])
    for storage in (*KINDS, FLOAT32):
        await change(rung, name, storage)
        assert await stored(rung, name) == storage
        # The next commit is after the change, so whoever has come to it has taken the change.
        watermark = await given.points(name, [point("p0", ROWS[0])])
        got = await rung.call(
            "GetPoints",
            pb.GetPointsRequest(
                collection=name, ids=["p7"], include_vectors=True, min_watermark=watermark
            ),
        )
        row = ROWS[7] if storage == FLOAT32 else ROWS[7].astype(np.float16).astype(np.float32)
        assert np.array_equal(unpacked(got.points[0].vector), row)


@pytest.mark.parametrize("storage", KINDS)
async def test_a_change_that_would_cost_recall_is_refused_with_its_figures(
    rung: Rung, given: Given, storage: collection_pb2.VectorStorage.ValueType
) -> None:
    name = await made(rung, EUCLIDEAN, FLOAT32)
    # What sets these apart is less than float16 sees at 1,000.
    rows = (1_000 + 0.05 * ROWS).astype(np.float32)
    await given.points(name, [point(f"p{n}", row) for n, row in enumerate(rows)])
    with pytest.raises(Refused) as caught:
        await change(rung, name, storage)
    refused = caught.value
    assert (refused.code, refused.reason) == ("FAILED_PRECONDITION", "RECALL_TOO_LOW")
    assert float(refused.metadata["recall_after"]) < 0.9 < float(refused.metadata["recall_before"])
    assert await stored(rung, name) == FLOAT32


@pytest.mark.parametrize("storage", KINDS)
async def test_values_that_cannot_be_kept_are_refused_and_others_written(
    rung: Rung, given: Given, storage: collection_pb2.VectorStorage.ValueType
) -> None:
    name = await made(rung, DOT, storage)
    watermark = await given.points(name, [point("most", np.full(8, 65_504, np.float32))])
    good, bad = point("good", ROWS[0]), point("bad", ROWS[0])
    bad.vector.CopyFrom(dense([70_000.0] + [0.0] * 7))
    with pytest.raises(Refused) as caught:
        await rung.call("UpsertPoints", pb.UpsertPointsRequest(collection=name, points=[good, bad]))
    assert caught.value.reason == "INVALID_VECTOR"
    assert "points[1].vector" in caught.value.fields
    counted = await rung.call(
        "CountPoints", pb.CountPointsRequest(collection=name, min_watermark=watermark)
    )
    assert counted.count == 1, "nothing of the request was written"
