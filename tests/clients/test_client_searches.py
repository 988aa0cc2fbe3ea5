"""A search says in full what it was given, and a batch is split and joined without a trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest
import ragmesh
from google.protobuf import json_format
from ragmesh import Boost, Examples, Field, NumberDecay, Search, TimeDecay
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing

RECENT = Field("year") >= 2020
FILTER = {"range": {"field": "year", "gte": 2020.0}}


def as_json(request: pb.SearchCollectionRequest) -> Any:
    return json_format.MessageToDict(request, preserving_proto_field_name=True)


ALL_SAID: dict[str, Any] = {
    "collection": "collections/papers",
    "examples": {
        "positive": [{"point_id": "a"}, {"vector": {"packed": ""}}],
        "negative": [{"point_id": "b"}],
        "strategy": "EXAMPLE_STRATEGY_BEST_SCORE",
    },
    "filter": FILTER,
    "limit": 7,
    "fusion": {
        "k": 5,
        "dense_weight": 2.0,
        "lexical_weight": 0.5,
        "method": "FUSION_METHOD_SCORE",
        "candidates": 50,
        "sparse_weight": 0.25,
    },
    "score_threshold": 0.0,
    "boosts": [
        {"filter": FILTER, "factor": 2.0},
        {"filter": FILTER, "factor": 1.0, "addend": -0.5},
    ],
    "decays": [
        {
            "field": "n",
            "kind": "DECAY_KIND_GAUSSIAN",
            "number": {"scale": 2.0},
            "midpoint": 0.25,
            "missing": 0.0,
        },
        {"field": "at", "time": {"scale": "86400s", "origin": "2024-05-01T00:00:00Z"}},
        {"field": "at", "time": {"scale": "1.500s"}},
    ],
    "rerank": {
        "method": "RERANK_METHOD_MODEL",
        "candidates": 9,
        "model": "embeddingModels/judge",
    },
    "diversity": {"relevance_weight": 0.0, "candidates": 40},
    "group": {"field": "color", "hits_per_group": 3},
    "ef_search": 99,
    "exact": True,
    "include_vectors": True,
    "include_sentences": True,
    "ids_only": True,
    "explain": True,
    "fingerprint": "f",
    "sparse_vector": {"indices": [7, 900], "values": [0.5, -1.0]},
    "min_watermark": "5",
}


async def test_every_argument_goes_out(client: EitherClient, script: ScriptedServer) -> None:
    script.on("SearchCollection", pb.SearchCollectionResponse())
    at = datetime(2024, 5, 1, tzinfo=UTC)
    await client.call(
        "search_collection",
        "papers",
        examples=Examples(("a", [1.0, 2.0]), ("b",), "best_score"),
        filter=RECENT,
        limit=7,
        fusion=ragmesh.RankFusion(5, 2.0, 0.5, "score", 50, 0.25),
        score_threshold=0.0,
        boosts=[Boost(RECENT, 2.0), Boost(RECENT, addend=-0.5)],
        decays=(
            NumberDecay("n", 0.0, 2.0, "gaussian", 0.25, 0.0),
            TimeDecay("at", timedelta(days=1), at),
            TimeDecay("at", timedelta(milliseconds=1_500)),
        ),
        rerank=ragmesh.Rerank("model", 9, "judge"),
        diversity=ragmesh.Diversity(0.0, 40),
        group=ragmesh.Grouping("color", 3),
        ef_search=99,
        exact=True,
        include_vectors=True,
        include_sentences=True,
        ids_only=True,
        explain=True,
        fingerprint="f",
        sparse_vector={7: 0.5, 900: -1.0},
        min_watermark="5",
    )
    (request,) = script.requests("SearchCollection")
    assert request.examples.positive[1].vector.packed == ragmesh.Vector([1.0, 2.0]).packed
    request.examples.positive[1].vector.packed = b""
    assert as_json(request) == ALL_SAID


async def test_what_is_not_given_is_not_said(client: EitherClient, script: ScriptedServer) -> None:
    script.on("SearchCollection", pb.SearchCollectionResponse())
    await client.call("search_collection", "papers", "how fast?")
    (request,) = script.requests("SearchCollection")
    assert as_json(request) == {"collection": "collections/papers", "text": "how fast?"}


async def test_every_field_comes_back(client: EitherClient, script: ScriptedServer) -> None:
    response = pb.SearchCollectionResponse(watermark="9", rerank_outcome="RERANK_OUTCOME_PARTIAL")  # type: ignore[arg-type]
    for number, id in ((0, "a"), (0, "b"), (1, "c")):
        hit = response.hits.add(score=0.5, group=number)
        hit.point.id = id
    response.hits[0].rerank_score = 0.0
    first = response.groups.add(document="collections/c/documents/d", hits=2)
    first.key.string_value = "d"
    first.span.start, first.span.end = 3, 9
    response.groups.add(hits=1).key.number_value = 7
    response.timings.rerank_ms = 1.5
    response.plan.strategy = "hnsw"
    response.plan.selectivity, response.plan.visited_points = 0.25, 70
    response.hits[1].sparse_score = -0.5
    response.hits[1].point.sparse_vector.indices[:] = [3]
    response.hits[1].point.sparse_vector.values[:] = [1.5]
    response.plan.legs.add(leg="SEARCH_LEG_SPARSE", strategy="postings", postings=4, weight=1.0)
    response.plan.stages.add(stage="SEARCH_STAGE_SPARSE", took_ms=0.5)
    script.on("SearchCollection", response)
    found = await client.call("search_collection", "papers", "x")
    assert [hit.rerank_score for hit in found.hits] == [0.0, None, None]
    assert [hit.group for hit in found.hits] == [0, 0, 1]
    assert found.rerank_outcome == "partial"
    assert found.timings.rerank_ms == 1.5
    assert (found.plan.selectivity, found.plan.visited_points) == (0.25, 70)
    assert [hit.sparse_score for hit in found.hits] == [None, -0.5, None]
    assert found.hits[0].point.sparse_vector is None
    assert found.hits[1].point.sparse_vector == ragmesh.SparseVector({3: 1.5})
    (leg,) = found.plan.legs
    assert (leg.leg, leg.strategy, leg.postings, leg.weight) == ("sparse", "postings", 4, 1.0)
    assert found.plan.stages_ms == {"sparse": 0.5}
    one, two = found.groups
    assert (one.key, one.document, one.span) == (
        "d",
        "collections/c/documents/d",
        ragmesh.TextSpan(3, 9),
    )
    assert [[hit.point.id for hit in group.hits] for group in found.groups] == [["a", "b"], ["c"]]
    assert (two.key, two.document, two.span) == (7, "", None)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"text": "x", "examples": Examples(("a",))},
        {"text": "x", "vector": [1.0], "sparse_vector": {1: 1.0}},
        {"text": "x", "mode": "magic"},
        {"text": "x", "fusion": ragmesh.RankFusion(method="sum")},  # type: ignore[arg-type]
        {"text": "x", "rerank": ragmesh.Rerank("twice")},  # type: ignore[arg-type]
        {"text": "x", "decays": [NumberDecay("n", 0, 1, "steep")]},  # type: ignore[arg-type]
        {"examples": Examples("abc")},  # type: ignore[arg-type]
        {"examples": Examples(("a",), strategy="worst")},  # type: ignore[arg-type]
        {"text": "x", "limit": 2**40},
    ],
)
async def test_what_no_search_can_be_is_refused_here(
    client: EitherClient, script: ScriptedServer, given: dict[str, Any]
) -> None:
    with pytest.raises(ragmesh.InvalidField):
        await client.call("search_collection", "papers", **given)
    with pytest.raises(ragmesh.InvalidField):
        await client.call("batch_search_collection", "papers", [Search(**given)])
    assert not script.seen


def answered(*ids: str) -> pb.BatchSearchCollectionResponse:
    response = pb.BatchSearchCollectionResponse()
    for id in ids:
        response.responses.add().hits.add().point.id = id
    return response


async def test_many_searches_go_in_several_requests(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("UpsertPoints", pb.UpsertPointsResponse(watermark="3", upserted=1))
    await client.call("upsert_points", "papers", [ragmesh.Point("p", [1.0])])
    script.on(
        "BatchSearchCollection",
        answered(*(str(n) for n in range(256))),
        answered(*(str(n) for n in range(256, 300))),
    )
    searches = (Search(text=f"q{n}", limit=n + 1) for n in range(300))
    found = await client.call("batch_search_collection", "papers", searches)
    assert [result.hits[0].point.id for result in found] == [str(n) for n in range(300)]
    first, second = script.requests("BatchSearchCollection")
    assert [one.text for one in (*first.searches, *second.searches)] == [
        f"q{n}" for n in range(300)
    ]
    assert {first.collection, second.collection} == {"collections/papers"}
    assert {first.min_watermark, second.min_watermark} == {"3"}
    assert {one.collection + one.min_watermark for one in first.searches} == {""}


async def test_answers_that_are_too_large_are_asked_for_in_halves(
    client: EitherClient, script: ScriptedServer
) -> None:
    large = failing(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="MESSAGE_TOO_LARGE")
    script.on("BatchSearchCollection", large, answered("a"), answered("b", "c"))
    searches = [Search(text=text) for text in ("a", "b", "c")]
    found = await client.call("batch_search_collection", "papers", searches)
    sent = [len(one.searches) for one in script.requests("BatchSearchCollection")]
    assert sent == [3, 1, 2]
    assert [result.hits[0].point.id for result in found] == ["a", "b", "c"]
