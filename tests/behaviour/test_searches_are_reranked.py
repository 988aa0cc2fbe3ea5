"""The best candidates get a second look, and where it is late or has nothing to look at the search
stands as it was and says so."""

from __future__ import annotations

import time
from typing import Any

import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from tests.behaviour.given import Given, abstracts, equals, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

MODEL = "embeddingModels/default"
SLACK_S = 5.0
"""How much later than its deadline an answer may come on a machine that does other things. What is
given up would take several times as long."""

_MADE: dict[str, tuple[str, str]] = {}

Response = pb.SearchCollectionResponse


@pytest.fixture
async def texts(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of abstracts, and its watermark; once for each mesh."""
    mesh = "one" if rung.name in ("process", "grpc") else "split"
    if mesh not in _MADE:
        collection = await given.text_collection()
        points = [
            point(a["_id"], text=f"{a['title']} {a['text']}"[:800], even=n % 2 == 0)
            for n, a in enumerate(abstracts()[:40])
        ]
        _MADE[mesh] = collection, await given.points(collection, points)
    return _MADE[mesh]


async def search(
    rung: Rung, at: tuple[str, str], timeout_s: float = 20.0, **fields: Any
) -> Response:
    request = pb.SearchCollectionRequest(
        collection=at[0], min_watermark=at[1], **{"limit": 10, **fields}
    )
    response = await rung.call("SearchCollection", request, timeout_s=timeout_s)
    assert isinstance(response, Response)
    return response


def ids(response: Response) -> list[str]:
    return [hit.point.id for hit in response.hits]


def check_order(response: Response) -> None:
    """Those with a reranking's score come first, by it."""
    scores = [hit.rerank_score for hit in response.hits if hit.HasField("rerank_score")]
    assert scores == sorted(scores, reverse=True)
    assert all(hit.HasField("rerank_score") for hit in response.hits[: len(scores)])


async def test_sentences_reorder_the_best_candidates(rung: Rung, texts: tuple[str, str]) -> None:
    moved = 0
    for a in abstracts()[:12]:
        question = a["text"].split(". ")[1]
        plain = await search(rung, texts, text=question, limit=20)
        rerank = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_SENTENCES, candidates=12)
        found = await search(rung, texts, text=question, limit=20, rerank=rerank)
        assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
        check_order(found)
        assert set(ids(found)[:12]) == set(ids(plain)[:12])
        assert ids(found)[12:] == ids(plain)[12:]
        assert {h.point.id: h.score for h in found.hits} == pytest.approx(
            {h.point.id: h.score for h in plain.hits}
        ), "the search's own scores stay"
        assert [h.HasField("rerank_score") for h in found.hits] == [True] * 12 + [False] * 8
        assert all(0 < h.rerank_score < 1 for h in found.hits[:12])
        assert ids(found)[0] == a["_id"], "the passage that has the sentence"
        moved += ids(found) != ids(plain)
        by_default = await search(rung, texts, text=question, rerank=search_pb2.Rerank())
        assert by_default.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
        assert all(h.HasField("rerank_score") for h in by_default.hits)
    assert moved >= 6


async def test_a_boost_outlives_the_reranking(rung: Rung, texts: tuple[str, str]) -> None:
    boost = search_pb2.Boost(filter=equals("even", True), factor=1e5)
    found = await search(
        rung, texts, text="cells and proteins", boosts=[boost], rerank=search_pb2.Rerank()
    )
    assert [h.point.payload["even"] for h in found.hits] == [True] * 10
    assert found.hits[0].rerank_score > 1_000
    check_order(found)


async def test_points_without_sentences_stay_as_they_were(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    rows = vectors(20)
    at = (
        collection,
        await given.points(collection, [point(str(n), row) for n, row in enumerate(rows)]),
    )
    plain = await search(rung, at, vector=packed(rows[0]))
    found = await search(rung, at, vector=packed(rows[0]), rerank=search_pb2.Rerank())
    assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_NOTHING_STORED
    assert ids(found) == ids(plain)
    assert not any(hit.HasField("rerank_score") for hit in found.hits)
    none = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_NONE)
    without = await search(rung, at, vector=packed(rows[0]), rerank=none)
    assert without.rerank_outcome == search_pb2.RERANK_OUTCOME_UNSPECIFIED


async def test_a_model_reorders_as_it_does_when_asked_itself(
    rung: Rung, texts: tuple[str, str]
) -> None:
    question = "What do stem cells become?"
    plain = await search(rung, texts, text=question, limit=8)
    rerank = search_pb2.Rerank(model=MODEL, candidates=8)
    found = await search(rung, texts, text=question, limit=8, rerank=rerank, explain=True)
    assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
    assert found.timings.rerank_ms > 0
    asked = embedding.RerankPassagesRequest(
        model=MODEL,
        query=question,
        passages=[hit.point.text for hit in plain.hits],
        prior_scores=[hit.score for hit in plain.hits],
    )
    alone = await rung.call("RerankPassages", asked)
    assert ids(found) == [ids(plain)[one.index] for one in alone.passages]
    assert [h.rerank_score for h in found.hits] == pytest.approx(
        [one.score for one in alone.passages], abs=0.02
    )


async def test_a_collection_may_name_the_model(rung: Rung, given: Given) -> None:
    collection = await given.text_collection(rerank_model=MODEL)
    got = await rung.call("GetCollection", pb.GetCollectionRequest(name=collection))
    assert got.collection.rerank_model == MODEL
    points = [point(a["_id"], text=a["text"][:400]) for a in abstracts()[:8]]
    at = collection, await given.points(collection, points)
    question = "What do stem cells become?"

    async def scores(**rerank: Any) -> list[float]:
        found = await search(rung, at, text=question, rerank=search_pb2.Rerank(**rerank))
        assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
        return [hit.rerank_score for hit in found.hits]

    by_model = await scores(model=MODEL)
    by_sentences = await scores(method=search_pb2.RERANK_METHOD_SENTENCES)
    assert by_model != pytest.approx(by_sentences, abs=0.01)
    assert await scores() == pytest.approx(by_model, abs=0.02)
    one = pb.SearchCollectionRequest(text=question, rerank=search_pb2.Rerank())
    batch = pb.BatchSearchCollectionRequest(
        collection=collection, min_watermark=at[1], searches=[one]
    )
    (batched,) = (await rung.call("BatchSearchCollection", batch)).responses
    assert [hit.rerank_score for hit in batched.hits] == pytest.approx(by_sentences, abs=0.02)
    change = pb.UpdateCollectionRequest()
    change.collection.name = collection
    change.update_mask.paths.append("rerank_model")
    assert (await rung.call("UpdateCollection", change)).collection.rerank_model == ""
    change.collection.rerank_model = "embeddingModels/absent"
    with pytest.raises(Refused) as refused:
        await rung.call("UpdateCollection", change)
    assert refused.value.reason == "EMBEDDING_MODEL_NOT_FOUND"


async def test_a_model_that_is_late_costs_the_order_and_not_the_hits(
    rung: Rung, given: Given
) -> None:
    collection = await given.vector_collection()
    words = "The committee met again and talked about the budget of the previous year. " * 1_000
    rows = vectors(20)
    points = [point(str(n), row, f"budget {n} {words}") for n, row in enumerate(rows)]
    at = collection, await given.points(collection, points, wait=True)
    plain = await search(rung, at, text="budget", limit=20, ids_only=True)
    begin_s = time.monotonic()
    found = await search(
        rung,
        at,
        timeout_s=2.5,
        text="budget",
        limit=20,
        rerank=search_pb2.Rerank(model=MODEL),
        ids_only=True,
    )
    assert time.monotonic() - begin_s < 2.5 + SLACK_S
    late = (search_pb2.RERANK_OUTCOME_LATE, search_pb2.RERANK_OUTCOME_PARTIAL)
    assert found.rerank_outcome in late
    check_order(found)
    scored = {h.point.id for h in found.hits if h.HasField("rerank_score")}
    assert sorted(ids(found)) == sorted(ids(plain))
    assert [id for id in ids(found) if id not in scored] == [
        id for id in ids(plain) if id not in scored
    ]


async def test_a_model_that_does_not_exist_is_the_callers_mistake(
    rung: Rung, texts: tuple[str, str]
) -> None:
    with pytest.raises(Refused) as refused:
        rerank = search_pb2.Rerank(model="embeddingModels/absent")
        await search(rung, texts, text="cells", rerank=rerank)
    assert refused.value.reason == "EMBEDDING_MODEL_NOT_FOUND"


async def test_reranked_hits_are_made_diverse_and_grouped(
    rung: Rung, texts: tuple[str, str]
) -> None:
    question = abstracts()[2]["text"].split(". ")[1]
    reranked = await search(rung, texts, text=question, rerank=search_pb2.Rerank(), limit=40)
    alone = search_pb2.Diversity(relevance_weight=1)
    same = await search(
        rung, texts, text=question, rerank=search_pb2.Rerank(), diversity=alone, limit=40
    )
    assert ids(same) == ids(reranked)
    grouping = search_pb2.Grouping(field="even", hits_per_group=3)
    grouped = await search(
        rung, texts, text=question, rerank=search_pb2.Rerank(), group=grouping, limit=2
    )
    for number, one in enumerate(grouped.groups):
        hits = [h for h in grouped.hits if h.group == number]
        wanted = [h for h in reranked.hits if h.point.payload["even"] == one.key.bool_value]
        assert hits[0].point.id == wanted[0].point.id
        assert all(h.HasField("rerank_score") for h in hits)
