"""A write of many points, which is read in a way of its own, is what many writes of one are."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, equals, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

COUNT = 400
ROWS = vectors(COUNT)
FILLING = "a text of a passage that takes some room, " * 6
"""So that a request is large: over 64 KiB."""

ODD: list[dict[str, Any]] = [
    {},
    {"words": 'quotes " and \\, lines\n and \x01, ü, 漢字, 🜚', "empty": ""},
    {"whole": 3, "negative": -7.0, "half": 0.5, "tiny": 5e-324, "large": 1e22, "zero": -0.0},
    {"yes": True, "no": False, "nothing": None},
    {"tags": ["a", "b", ["c", 1]], "deep": {"er": {"er": [{"x": 1}, {"x": "y"}]}}, "d.o.t": 1},
    {"": "an empty key", "time": "2024-05-01T12:00:00+02:00"},
]


def _points() -> list[point_pb2.Point]:
    ids = [f"p{n:03}" for n in range(COUNT - 3)] + ["ü 1", "漢字", "p007"]
    return [
        point(id, ROWS[n], f"text {n}", number=n, filling=FILLING, **ODD[n % len(ODD)])
        for n, id in enumerate(ids)
    ]


async def _all(rung: Rung, collection: str, watermark: str) -> list[dict[str, Any]]:
    ids = sorted({p.id for p in _points()})
    request = pb.GetPointsRequest(
        collection=collection, ids=ids, include_vectors=True, min_watermark=watermark
    )
    got = (await rung.call("GetPoints", request)).points
    return [
        {"id": p.id, "text": p.text, "vector": p.vector.packed, "payload": dict(p.payload)}
        for p in got
    ]


async def test_many_points_at_once_are_what_each_of_them_is_alone(rung: Rung, given: Given) -> None:
    large, small = await given.vector_collection(), await given.vector_collection()
    written = _points()
    request = pb.UpsertPointsRequest(collection=large, points=written)
    assert request.ByteSize() > 64 << 10
    response = await rung.call("UpsertPoints", request)
    assert response.upserted == COUNT - 1  # of an id that is there twice, the last
    watermark = ""
    for start in range(0, COUNT, 40):
        part = written[start : start + 40]
        assert pb.UpsertPointsRequest(collection=small, points=part).ByteSize() < 64 << 10
        watermark = await given.points(small, part)
    assert await _all(rung, large, response.watermark) == await _all(rung, small, watermark)
    for name, value in (("number", 11), ("words", ODD[1]["words"]), ("deep.er.er.x", "y")):
        counts = [
            (
                await rung.call(
                    "CountPoints",
                    pb.CountPointsRequest(
                        collection=collection, filter=equals(name, value), min_watermark=least
                    ),
                )
            ).count
            for collection, least in ((large, response.watermark), (small, watermark))
        ]
        assert counts[0] == counts[1] > 0
    hits = [
        [
            (hit.point.id, hit.score, dict(hit.point.payload))
            for hit in (
                await rung.call(
                    "SearchCollection",
                    pb.SearchCollectionRequest(
                        collection=collection, vector=packed(ROWS[5]), min_watermark=least
                    ),
                )
            ).hits
        ]
        for collection, least in ((large, response.watermark), (small, watermark))
    ]
    assert hits[0] == hits[1]


async def test_a_large_write_is_done_once_for_its_request_id(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    key = str(uuid.uuid4())
    request = pb.UpsertPointsRequest(collection=collection, points=_points(), request_id=key)
    first = await rung.call("UpsertPoints", request)
    again = await rung.call("UpsertPoints", request)
    assert (again.watermark, again.upserted) == (first.watermark, first.upserted)
    request.points[0].text = "another"
    with pytest.raises(Refused) as refused:
        await rung.call("UpsertPoints", request)
    assert refused.value.reason == "REQUEST_ID_REUSED"


async def test_a_large_write_with_one_bad_point_is_refused_whole_and_names_it(
    rung: Rung, given: Given
) -> None:
    collection = await given.vector_collection()
    for change, reason, field in (
        (lambda p: p.vector.CopyFrom(packed(ROWS[0] * float("nan"))), "INVALID_VECTOR", ".vector"),
        (lambda p: p.vector.CopyFrom(packed(ROWS[0][:5])), "DIMENSION_MISMATCH", ".vector"),
        (lambda p: setattr(p, "id", "a#1"), "INVALID_FIELD", ".id"),
        (lambda p: setattr(p, "document", "x"), "INVALID_FIELD", ".document"),
    ):
        written = _points()
        change(written[123])
        request = pb.UpsertPointsRequest(collection=collection, points=written)
        with pytest.raises(Refused) as refused:
            await rung.call("UpsertPoints", request)
        assert refused.value.reason == reason
        assert any(
            f"points[123]{field}" in one for one in (*refused.value.fields, str(refused.value))
        )
    count = await rung.call("CountPoints", pb.CountPointsRequest(collection=collection))
    assert count.count == 0
