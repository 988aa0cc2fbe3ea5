"""A search by graph finds what an exact scan finds; a hybrid search is the fusion of its two legs;
a filter is what filtering afterwards would give, however it is written."""

from __future__ import annotations

import gzip
import io
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from ragmesh.api.retrieval.v1 import collection_pb2, filter_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.types import Vector
from tests.behaviour.given import (
    Given,
    abstracts,
    all_of,
    any_of,
    between,
    equals,
    none_of,
    one_of,
    packed,
    point,
)
from tests.behaviour.rungs import Rung

SIFT = Path(__file__).parents[1] / "data" / "sift5k"
POINTS, QUERIES, K = 3_000, 20, 10
RECALL_MIN = 0.95
_MADE: dict[tuple[str, str], tuple[str, str]] = {}


@cache
def sift(name: str) -> Vector:
    """SIFT vectors, 128 numbers each."""
    with gzip.open(SIFT / f"{name}.npy.gz") as file:
        rows: Vector = np.load(io.BytesIO(file.read())).astype(np.float32)
    return rows


def payload(number: int) -> dict[str, Any]:
    """What a point of the images knows of itself: one value of every kind."""
    return {
        "number": number,
        "parity": number % 2,
        "group": f"g{number % 7}",
        "tags": [f"t{number % 3}", f"u{number % 5}"] if number % 4 else None,
        "made": f"2024-02-{1 + number % 28:02}T23:30:00-0{number % 3}:00",
        "title": f"Image {number % 50} of the {'ships' if number % 2 else 'towers'}",
    }


def mesh_of(rung: Rung) -> str:
    """Rungs of one mesh see the same collections."""
    return "one" if rung.name in ("process", "grpc") else "split"


@pytest.fixture
async def images(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of SIFT vectors with payloads, and its watermark."""
    key = (mesh_of(rung), "images")
    if key not in _MADE:
        collection = await given.vector_collection(
            dimensions=128, metric=collection_pb2.METRIC_EUCLIDEAN
        )
        watermark = ""
        for start in range(0, POINTS, 1_000):
            rows = [
                point(f"{i:05}", sift("base")[i], **payload(i)) for i in range(start, start + 1_000)
            ]
            watermark = await given.points(collection, rows)
        _MADE[key] = collection, watermark
    return _MADE[key]


@pytest.fixture
async def texts(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of SciFact abstracts, and its watermark."""
    key = (mesh_of(rung), "texts")
    if key not in _MADE:
        collection = await given.text_collection()
        rows = [point(a["_id"], text=f"{a['title']} {a['text']}"[:600]) for a in abstracts()[:60]]
        _MADE[key] = collection, await given.points(collection, rows)
    return _MADE[key]


def filter_of(text: str) -> filter_pb2.Filter:
    """A filter, written as text."""
    return text_format.Parse(text, filter_pb2.Filter())


async def search(rung: Rung, at: tuple[str, str], **fields: Any) -> pb.SearchCollectionResponse:
    collection, watermark = at
    request = pb.SearchCollectionRequest(
        collection=collection, min_watermark=watermark, **{"limit": K, **fields}
    )
    response = await rung.call("SearchCollection", request)
    assert isinstance(response, pb.SearchCollectionResponse)
    scores = [hit.score for hit in response.hits]
    assert scores == sorted(scores, reverse=True)
    return response


def ids(response: pb.SearchCollectionResponse) -> list[str]:
    return [hit.point.id for hit in response.hits]


async def test_the_exact_scan_is_exact(rung: Rung, images: tuple[str, str]) -> None:
    for query in sift("query")[:QUERIES]:
        distances = np.linalg.norm(sift("base")[:POINTS] - query, axis=1)
        nearest = np.argsort(distances, kind="stable")[:K]
        response = await search(rung, images, vector=packed(query), exact=True)
        assert sorted(ids(response)) == sorted(f"{i:05}" for i in nearest)
        assert [-h.score for h in response.hits] == pytest.approx(distances[nearest], rel=1e-4)


async def test_the_graph_agrees_with_the_exact_scan(rung: Rung, images: tuple[str, str]) -> None:
    found = 0
    for query in sift("query")[:QUERIES]:
        exact = await search(rung, images, vector=packed(query), exact=True)
        graph = await search(rung, images, vector=packed(query), ef_search=128, explain=True)
        assert graph.plan.matching_points == POINTS
        found += len(set(ids(exact)) & set(ids(graph)))
    assert found >= RECALL_MIN * K * QUERIES


@pytest.mark.parametrize(
    ("same", "keeps"),
    [
        ([equals("parity", 1), none_of(equals("parity", 0))], lambda i: i % 2 == 1),
        (
            [
                one_of("group", ["g1", "g2"]),
                any_of(equals("group", "g1"), equals("group", "g2")),
                all_of(one_of("group", ["g1", "g2", "g3"]), none_of(equals("group", "g3"))),
            ],
            lambda i: i % 7 in (1, 2),
        ),
        (
            [
                between("number", gte=100, lt=160),
                all_of(between("number", gte=100), between("number", lte=159)),
            ],
            lambda i: 100 <= i < 160,
        ),
        ([equals("number", 7), one_of("number", [7])], lambda i: i == 7),
        (
            [equals("group", "absent"), all_of(equals("parity", 1), equals("parity", 0))],
            lambda i: False,
        ),
        (
            [
                filter_of(
                    'has_all { field: "tags" values { string_value: "t1" }'
                    ' values { string_value: "u2" } }'
                ),
                all_of(equals("tags", "u2"), equals("tags", "t1")),
            ],
            lambda i: bool(i % 4) and i % 3 == 1 and i % 5 == 2,
        ),
        (
            [
                filter_of('datetime_range { field: "made" lt: "2024-02-03T02:00:00+01:00" }'),
                filter_of('datetime_range { field: "made" lte: "2024-02-03T00:59:59.999999Z" }'),
            ],
            lambda i: i % 28 == 0 or (i % 28 == 1 and i % 3 < 2),
        ),
        (
            [
                filter_of('has_words { field: "title" text: "SHIPS 17" }'),
                filter_of('has_words { field: "title" text: "17, ships!" }'),
            ],
            lambda i: i % 50 == 17,
        ),
        (
            [
                filter_of('is_null { field: "tags" }'),
                none_of(filter_of('exists { field: "tags" }')),
                filter_of('values_count { field: "tags" lt: 1 }'),
            ],
            lambda i: i % 4 == 0,
        ),
        (
            [
                filter_of('values_count { field: "tags" gte: 2 }'),
                filter_of('values_count { field: "tags" gt: 1 lte: 2 }'),
            ],
            lambda i: i % 4 != 0,
        ),
    ],
    ids=["not", "or", "range", "one", "none", "all", "times", "words", "null", "count"],
)
async def test_a_filter_is_filtering_afterwards(
    rung: Rung, images: tuple[str, str], same: list[filter_pb2.Filter], keeps: Any
) -> None:
    query = sift("query")[0]
    distances = np.linalg.norm(sift("base")[:POINTS] - query, axis=1)
    kept = [i for i in np.argsort(distances, kind="stable") if keeps(int(i))]
    first: pb.SearchCollectionResponse | None = None
    for one in same:
        exact = await search(rung, images, vector=packed(query), exact=True, filter=one)
        assert sorted(ids(exact)) == sorted(f"{i:05}" for i in kept[:K])
        quick = await search(rung, images, vector=packed(query), filter=one, explain=True)
        assert quick.plan.matching_points == len(kept)
        assert all(keeps(int(i)) for i in ids(quick))
        assert len(quick.hits) == min(K, len(kept))
        # The graphs of two replicas may differ, so only one node's answers are the same.
        told = quick if mesh_of(rung) == "one" else exact
        first = first or told
        assert ids(told) == ids(first), "two ways to say one thing give one answer"
        collection, watermark = images
        count = pb.CountPointsRequest(collection=collection, filter=one, min_watermark=watermark)
        assert (await rung.call("CountPoints", count)).count == len(kept)


async def test_a_hybrid_search_fuses_its_two_legs(rung: Rung, texts: tuple[str, str]) -> None:
    question, k = "diffusion imaging of the newborn brain", 10
    legs = {}
    for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_LEXICAL):
        legs[mode] = ids(await search(rung, texts, text=question, mode=mode, limit=60))
    hybrid = await search(
        rung, texts, text=question, mode=pb.SEARCH_MODE_HYBRID, fusion=pb.RankFusion(k=k)
    )
    assert len(hybrid.hits) == K
    for hit in hybrid.hits:
        score = sum(
            1 / (k + leg.index(hit.point.id) + 1) for leg in legs.values() if hit.point.id in leg
        )
        assert hit.score == pytest.approx(score, rel=1e-5)
        assert hit.HasField("dense_score") or hit.HasField("lexical_score")
        if hit.HasField("dense_score"):
            assert -1 <= hit.dense_score <= 1.0001
    unnamed = await search(rung, texts, text=question)
    assert ids(unnamed) == ids(hybrid), "hybrid is what a text gets by default"


async def test_neighbors_of_a_point_leave_it_out(rung: Rung, images: tuple[str, str]) -> None:
    near = await search(rung, images, point_id="00042", exact=True)
    distances = np.linalg.norm(sift("base")[:POINTS] - sift("base")[42], axis=1)
    wanted = [i for i in np.argsort(distances, kind="stable") if i != 42][:K]
    assert sorted(ids(near)) == sorted(f"{i:05}" for i in wanted)


async def test_a_threshold_and_a_limit_only_cut(rung: Rung, images: tuple[str, str]) -> None:
    query = packed(sift("query")[1])
    whole = await search(rung, images, vector=query, limit=20)
    assert ids(await search(rung, images, vector=query, limit=5)) == ids(whole)[:5]
    threshold = whole.hits[7].score
    cut = await search(rung, images, vector=query, limit=20, score_threshold=threshold)
    assert ids(cut) == ids(whole)[:8]
    bare = await search(rung, images, vector=query, ids_only=True)
    assert all(not h.point.text and not h.point.payload.fields for h in bare.hits)
