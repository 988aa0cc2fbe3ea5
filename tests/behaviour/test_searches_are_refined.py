"""What a search does beyond the best hits is what an oracle in plain Python says: fusion by scores,
boosts, decays, examples, diversity, groups and batches."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf import duration_pb2, timestamp_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from tests.behaviour.given import Given, abstracts, between, equals, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

COUNT, K = 400, 10
ROWS = vectors(COUNT, 16, seed=11)
QUERY = vectors(1, 16, seed=12)[0]
SCORES = ROWS @ QUERY
BEGIN = datetime(2024, 1, 1, tzinfo=UTC)
_MADE: dict[tuple[str, str], tuple[str, str]] = {}


def mesh_of(rung: Rung) -> str:
    """Rungs of one mesh see the same collections."""
    return "one" if rung.name in ("process", "grpc") else "split"


def name_of(n: int) -> str:
    """The id of a row; ids order as rows do."""
    return f"{n:03}"


@pytest.fixture
async def rows(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of the vectors, and its watermark. Of every ten rows one has no time."""
    key = (mesh_of(rung), "rows")
    if key not in _MADE:
        collection = await given.vector_collection(dimensions=16)
        points = []
        for n, row in enumerate(ROWS):
            payload: dict[str, Any] = {"n": n, "color": ["red", "green", "blue"][n % 3]}
            if n % 10:
                payload["at"] = f"{BEGIN + timedelta(days=n):%Y-%m-%dT%H:%M:%SZ}"
            points.append(point(name_of(n), row, f"row {n}", **payload))
        _MADE[key] = collection, await given.points(collection, points)
    return _MADE[key]


@pytest.fixture
async def texts(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of abstracts, and its watermark."""
    key = (mesh_of(rung), "texts")
    if key not in _MADE:
        collection = await given.text_collection()
        points = [point(a["_id"], text=f"{a['title']} {a['text']}"[:600]) for a in abstracts()[:40]]
        _MADE[key] = collection, await given.points(collection, points)
    return _MADE[key]


async def search(rung: Rung, at: tuple[str, str], **fields: Any) -> pb.SearchCollectionResponse:
    queries = {"text", "vector", "point_id", "examples"}
    query = {} if queries & fields.keys() else {"vector": packed(QUERY)}
    request = pb.SearchCollectionRequest(
        collection=at[0], min_watermark=at[1], **{"limit": K, **query, **fields}
    )
    response = await rung.call("SearchCollection", request)
    assert isinstance(response, pb.SearchCollectionResponse)
    return response


def ids(response: pb.SearchCollectionResponse) -> list[str]:
    return [hit.point.id for hit in response.hits]


def best(scores: np.ndarray, count: int = K) -> list[str]:
    """The ids of the best rows, the first of equals first."""
    return [name_of(int(n)) for n in np.argsort(-scores, kind="stable")[:count]]


async def test_scores_are_fused_by_their_place_in_each_leg(
    rung: Rung, texts: tuple[str, str]
) -> None:
    question = "diffusion imaging of the newborn brain"
    legs = []
    for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_LEXICAL):
        leg = await search(rung, texts, text=question, mode=mode, limit=30)
        legs.append({hit.point.id: hit.score for hit in leg.hits})
    fusion = pb.RankFusion(
        method=search_pb2.FUSION_METHOD_SCORE, dense_weight=2, lexical_weight=0.5, candidates=30
    )
    found = await search(rung, texts, text=question, fusion=fusion, limit=30)
    expected: dict[str, float] = {}
    for scores, weight in zip(legs, (2, 0.5), strict=True):
        mean, deviation = statistics.fmean(scores.values()), statistics.pstdev(scores.values())
        for id, score in scores.items():
            share = max(0.0, 0.5 + (score - mean) / (6 * deviation))
            expected[id] = expected.get(id, 0.0) + weight * share
    for hit in found.hits:
        assert hit.score == pytest.approx(expected[hit.point.id], rel=1e-4)
        assert hit.HasField("dense_score") == (hit.point.id in legs[0])
        assert hit.HasField("lexical_score") == (hit.point.id in legs[1])
    top = sorted(expected.values(), reverse=True)[: len(found.hits)]
    assert [hit.score for hit in found.hits] == pytest.approx(top, rel=1e-4)


async def test_boosts_and_decays_move_the_best_candidates(
    rung: Rung, rows: tuple[str, str]
) -> None:
    near = search_pb2.Decay(
        field="n",
        kind=search_pb2.DECAY_KIND_GAUSSIAN,
        number=search_pb2.NumberOrigin(origin=200, scale=50),
    )
    boosts = [
        search_pb2.Boost(filter=equals("color", "red"), factor=1.5),
        search_pb2.Boost(filter=between("n", gte=300), addend=0.25),
    ]
    found = await search(rung, rows, boosts=boosts, decays=[near], exact=True)
    expected = {}
    for n in np.argsort(-SCORES, kind="stable")[:100].tolist():  # the candidates
        factor = (1.5 if n % 3 == 0 else 1.0) * max(1e-6, 0.5 ** ((abs(n - 200) / 50) ** 2))
        base = float(SCORES[n])
        moved = base * factor if base >= 0 else base / factor
        expected[name_of(n)] = moved + (0.25 if n >= 300 else 0.0)
    assert ids(found) == sorted(expected, key=lambda id: (-expected[id], id))[:K]
    for hit in found.hits:
        assert hit.score == pytest.approx(expected[hit.point.id], rel=1e-4)
        assert hit.dense_score == pytest.approx(SCORES[int(hit.point.id)], abs=1e-5)
    threshold = found.hits[4].score - 1e-6
    cut = await search(
        rung, rows, boosts=boosts, decays=[near], exact=True, score_threshold=threshold
    )
    assert ids(cut) == ids(found)[:5]


async def test_what_is_recent_comes_first(rung: Rung, rows: tuple[str, str]) -> None:
    origin = timestamp_pb2.Timestamp()
    origin.FromDatetime(BEGIN + timedelta(days=COUNT))
    month = duration_pb2.Duration(seconds=30 * 86_400)
    decay = search_pb2.Decay(
        field="at", time=search_pb2.TimeOrigin(origin=origin, scale=month), missing=0.01
    )
    found = await search(rung, rows, decays=[decay], exact=True)
    expected = {}
    for n in np.argsort(-SCORES, kind="stable")[:100].tolist():
        factor = 0.5 ** ((COUNT - n) / 30) if n % 10 else 0.01
        base = float(SCORES[n])
        expected[name_of(n)] = base * factor if base >= 0 else base / factor
    assert ids(found) == sorted(expected, key=lambda id: -expected[id])[:K]
    now = search_pb2.Decay(field="at", time=search_pb2.TimeOrigin(scale=month))
    late = await search(rung, rows, decays=[now], exact=True)
    assert all(hit.score < hit.dense_score / 8 for hit in late.hits if int(hit.point.id) % 10)


def example(one: int | np.ndarray) -> search_pb2.Example:
    """A row by its id, or a vector."""
    if isinstance(one, int):
        return search_pb2.Example(point_id=name_of(one))
    return search_pb2.Example(vector=packed(one))


async def test_examples_are_averaged_and_not_found(rung: Rung, rows: tuple[str, str]) -> None:
    given_vector = QUERY * 3  # not normalized: the server's business
    examples = search_pb2.Examples(
        positive=[example(5), example(given_vector)], negative=[example(7)]
    )
    found = await search(rung, rows, examples=examples, exact=True)
    wanted = (ROWS[5] + QUERY) - ROWS[7]
    scores = ROWS @ (wanted / np.linalg.norm(wanted))
    scores[[5, 7]] = -np.inf
    assert ids(found) == best(scores)
    assert [hit.score for hit in found.hits] == pytest.approx(np.sort(scores)[::-1][:K], abs=1e-4)


async def test_the_best_score_counts_and_nearer_to_negative_is_out(
    rung: Rung, rows: tuple[str, str]
) -> None:
    examples = search_pb2.Examples(
        positive=[example(5), example(6)],
        negative=[example(7), example(8)],
        strategy=search_pb2.EXAMPLE_STRATEGY_BEST_SCORE,
    )
    found = await search(rung, rows, examples=examples, exact=True, limit=5)
    likes = np.max(ROWS @ ROWS[[5, 6]].T, axis=1)
    dislikes = np.max(ROWS @ ROWS[[7, 8]].T, axis=1)
    likes[(dislikes > likes)] = -np.inf
    likes[[5, 6, 7, 8]] = -np.inf
    near = set(best(np.where(np.isfinite(likes), likes, -2), 5))
    assert set(ids(found)) <= set(best(np.where(np.isfinite(likes), likes, -2), 40))
    assert ids(found)[0] in near
    assert not {name_of(n) for n in (5, 6, 7, 8)} & set(ids(found))
    for hit in found.hits:
        assert hit.score == pytest.approx(likes[int(hit.point.id)], abs=1e-4)


async def test_diverse_hits_are_chosen_one_by_one(rung: Rung, rows: tuple[str, str]) -> None:
    diversity = search_pb2.Diversity(relevance_weight=0.4, candidates=60)
    found = await search(rung, rows, diversity=diversity, exact=True)
    candidates = np.argsort(-SCORES, kind="stable")[:60].tolist()
    least, span = SCORES[candidates].min(), np.ptp(SCORES[candidates])
    taken: list[int] = []
    while len(taken) < K:

        def value(n: int) -> float:
            relevance = float((SCORES[n] - least) / span)
            if not taken:
                return relevance
            return 0.4 * relevance - 0.6 * float((ROWS[taken] @ ROWS[n]).max())

        taken.append(max((n for n in candidates if n not in taken), key=value))
    assert ids(found) == [name_of(n) for n in taken]
    assert all(not hit.point.HasField("vector") for hit in found.hits)
    alone = search_pb2.Diversity(relevance_weight=1)
    assert ids(await search(rung, rows, diversity=alone, exact=True)) == best(SCORES)


async def test_groups_are_the_best_of_each_value(rung: Rung, rows: tuple[str, str]) -> None:
    grouping = search_pb2.Grouping(field="color", hits_per_group=2)
    found = await search(rung, rows, group=grouping, exact=True, limit=3)
    order = np.argsort(-SCORES, kind="stable").tolist()
    expected: dict[str, list[str]] = {}
    for n in order:
        members = expected.setdefault(["red", "green", "blue"][n % 3], [])
        if len(members) < 2:
            members.append(name_of(n))
    assert [g.key.string_value for g in found.groups] == list(expected)
    assert [g.hits for g in found.groups] == [2, 2, 2]
    assert ids(found) == [id for members in expected.values() for id in members]
    assert [hit.group for hit in found.hits] == [0, 0, 1, 1, 2, 2]
    two = await search(rung, rows, group=grouping, exact=True, limit=2)
    assert [g.key.string_value for g in two.groups] == list(expected)[:2]
    assert not (await search(rung, rows, group=search_pb2.Grouping(field="x"))).hits


async def test_a_rare_value_has_its_group_too(rung: Rung, given: Given) -> None:
    collection = await given.vector_collection()
    near = np.eye(8, dtype=np.float32)
    points = [point(f"n{i:03}", near[0] + near[1] * i / 1_000, kind="common") for i in range(300)]
    points.append(point("rare", near[0] + near[1], kind="rare"))
    at = collection, await given.points(collection, points)
    found = await search(
        rung, at, vector=packed(near[0]), group=search_pb2.Grouping(field="kind"), limit=2
    )
    assert [g.key.string_value for g in found.groups] == ["common", "rare"]


async def test_passages_are_grouped_by_their_document(rung: Rung, given: Given) -> None:
    collection = await given.text_collection(chunking={"tokens_max": 48, "overlap_tokens": 0})
    made = {}
    for a in abstracts()[:4]:
        document, watermark = await given.ingested(collection, a["text"], f"{a['_id']}.txt")
        made[document.name] = document
    at = collection, watermark
    question = abstracts()[1]["title"]
    grouping = search_pb2.Grouping(hits_per_group=3)
    found = await search(rung, at, text=question, group=grouping, limit=4)
    assert {g.document for g in found.groups} <= made.keys()
    assert len({g.document for g in found.groups}) == len(found.groups) == 4
    for number, one in enumerate(found.groups):
        hits = [hit for hit in found.hits if hit.group == number]
        assert len(hits) == one.hits <= 3
        assert {hit.point.document for hit in hits} == {one.document}
        assert one.document.endswith(f"/documents/{one.key.string_value}")
        assert one.span.start == min(hit.point.span.start for hit in hits)
        assert one.span.end == max(hit.point.span.end for hit in hits)


async def test_a_batch_is_its_searches_one_by_one(rung: Rung, texts: tuple[str, str]) -> None:
    searches: list[dict[str, Any]] = [
        {"text": "brain"},
        {"text": "brain", "mode": pb.SEARCH_MODE_LEXICAL, "limit": 3, "ids_only": True},
        {"text": "cells", "mode": pb.SEARCH_MODE_DENSE, "explain": True},
        {"point_id": abstracts()[3]["_id"], "include_vectors": True},
        {"text": "cells", "rerank": search_pb2.Rerank()},
        {"text": "nowhere-to-be-found", "mode": pb.SEARCH_MODE_LEXICAL},
    ]
    collection, watermark = texts
    batch = pb.BatchSearchCollectionRequest(
        collection=collection,
        min_watermark=watermark,
        searches=[pb.SearchCollectionRequest(**one) for one in searches],
    )
    found = await rung.call("BatchSearchCollection", batch)
    assert len(found.responses) == len(searches)
    for one, response in zip(searches, found.responses, strict=True):
        alone = await search(rung, texts, **{"limit": 0, **one})
        assert ids(response) == ids(alone)
        assert [h.score for h in response.hits] == pytest.approx([h.score for h in alone.hits])
        assert [h.point.text for h in response.hits] == [h.point.text for h in alone.hits]
        assert response.watermark == found.watermark
        assert response.rerank_outcome == alone.rerank_outcome
        assert response.plan.strategy == alone.plan.strategy


async def test_a_batch_names_the_search_that_is_wrong(rung: Rung, rows: tuple[str, str]) -> None:
    good = pb.SearchCollectionRequest(vector=packed(QUERY))
    for wrong, reason, field in (
        (pb.SearchCollectionRequest(vector=packed(QUERY), limit=-1), "INVALID_FIELD", "limit"),
        (pb.SearchCollectionRequest(point_id="absent"), "POINT_NOT_FOUND", "point_id"),
        (pb.SearchCollectionRequest(vector=packed(QUERY[:4])), "DIMENSION_MISMATCH", "vector"),
        (
            pb.SearchCollectionRequest(text="x", mode=pb.SEARCH_MODE_DENSE),
            "NO_EMBEDDING_MODEL",
            "text",
        ),
    ):
        batch = pb.BatchSearchCollectionRequest(collection=rows[0], searches=[good, good, wrong])
        with pytest.raises(Refused) as refused:
            await rung.call("BatchSearchCollection", batch)
        assert refused.value.reason == reason
        assert "searches[2]" in refused.value.message
        if refused.value.fields:
            assert refused.value.fields == (f"searches[2].{field}",)
