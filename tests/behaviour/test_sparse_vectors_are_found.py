"""Sparse vectors are found by inner product, alone or as a leg beside others, and come back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2, search_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, equals, packed, point, vectors
from tests.behaviour.rungs import Rung

COUNT = 60
ROWS = vectors(COUNT)
WORDS = ("ant", "bee", "cat", "dog")

_MADE: dict[str, tuple[str, str]] = {}

Response = pb.SearchCollectionResponse
Sparse = dict[int, float]


def sparse_rows() -> list[Sparse]:
    """What halves and quarters add up to is exact, so that ties are ties."""
    random = np.random.default_rng(3)
    found = []
    for _ in range(COUNT):
        indices = random.choice([0, 3, 7, 250, 70_000, 2**32 - 1], random.integers(1, 5), False)
        values = random.choice([-1.0, 0.25, 0.5, 1.0], len(indices))
        found.append(dict(zip(indices.tolist(), values.tolist(), strict=True)))
    return found


SPARSE = sparse_rows()
QUERY = {7: 1.0, 0: -0.5, 250: 0.25, 2**32 - 1: 2.0}


def message(vector: Sparse) -> vector_pb2.SparseVector:
    return vector_pb2.SparseVector(indices=list(vector), values=list(vector.values()))


def written(number: int) -> point_pb2.Point:
    """Every third has a sparse vector alone, every third none."""
    bare = number % 3 == 1
    made = point(
        f"p{number:02}",
        None if bare else ROWS[number],
        "" if bare else f"{WORDS[number % 4]} {WORDS[number % 3]}",
        color="red" if number % 2 else "blue",
    )
    if number % 3 != 2:
        made.sparse_vector.CopyFrom(message(SPARSE[number]))
    return made


def wanted(query: Sparse, k: int, *, without: set[str] = frozenset(), color: str = "") -> Any:  # type: ignore[assignment]
    """Ids and scores as plain Python has them."""
    scores = {
        f"p{n:02}": sum(query[i] * value for i, value in SPARSE[n].items() if i in query)
        for n in range(COUNT)
        if n % 3 != 2 and query.keys() & SPARSE[n].keys()
        if not color or color == ("red" if n % 2 else "blue")
    }
    left = [(id, score) for id, score in scores.items() if id not in without]
    return sorted(left, key=lambda item: (-item[1], item[0]))[:k]


@pytest.fixture
async def mixed(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of points with vectors of both kinds, one or none; once for each mesh."""
    mesh = "one" if rung.name in ("process", "grpc") else "split"
    if mesh not in _MADE:
        collection = await given.vector_collection()
        await given.points(collection, [written(n) for n in range(COUNT)])
        mark = await given.points(collection, [written(n) for n in range(5)])
        _MADE[mesh] = collection, mark
    return _MADE[mesh]


async def search(rung: Rung, at: tuple[str, str], **fields: Any) -> Response:
    request = pb.SearchCollectionRequest(
        collection=at[0], min_watermark=at[1], **{"limit": 10, **fields}
    )
    response = await rung.call("SearchCollection", request)
    assert isinstance(response, Response)
    return response


def scored(response: Response) -> list[tuple[str, float]]:
    return [(hit.point.id, hit.score) for hit in response.hits]


def leg_name(leg: search_pb2.SearchLegPlan) -> str:
    return search_pb2.SearchLeg.Name(leg.leg).removeprefix("SEARCH_LEG_").lower()


async def test_the_best_inner_products_come_first_and_ties_by_id(
    rung: Rung, mixed: tuple[str, str]
) -> None:
    found = await search(rung, mixed, sparse_vector=message(QUERY), limit=25)
    assert scored(found) == wanted(QUERY, 25)
    assert all(hit.sparse_score == hit.score for hit in found.hits)
    assert not any(hit.HasField("dense_score") for hit in found.hits)
    red = await search(
        rung, mixed, sparse_vector=message(QUERY), filter=equals("color", "red"), limit=50
    )
    assert scored(red) == wanted(QUERY, 50, color="red")
    cut = await search(rung, mixed, sparse_vector=message(QUERY), score_threshold=0.5, limit=50)
    assert scored(cut) == [one for one in wanted(QUERY, 50) if one[1] >= 0.5]
    groups = search_pb2.Grouping(field="color")
    best = await search(rung, mixed, sparse_vector=message(QUERY), group=groups, limit=2)
    assert [hit.point.id for hit in best.hits] == [
        wanted(QUERY, 1, color=key)[0][0]
        for key in sorted(("red", "blue"), key=lambda c: -wanted(QUERY, 1, color=c)[0][1])
    ]


async def test_what_was_written_comes_back_with_vectors(rung: Rung, mixed: tuple[str, str]) -> None:
    get = pb.GetPointsRequest(
        collection=mixed[0], ids=["p00", "p01", "p02"], include_vectors=True, min_watermark=mixed[1]
    )
    points = (await rung.call("GetPoints", get)).points
    for one, number in zip(points, range(3), strict=True):
        assert one.HasField("sparse_vector") == (number != 2)
        assert one.HasField("vector") == (number != 1)
        if number != 2:
            back = dict(zip(one.sparse_vector.indices, one.sparse_vector.values, strict=True))
            assert back == SPARSE[number]
            assert list(one.sparse_vector.indices) == sorted(SPARSE[number])
    get.include_vectors = False
    assert not any(
        one.HasField("sparse_vector") for one in (await rung.call("GetPoints", get)).points
    )
    found = await search(rung, mixed, sparse_vector=message(QUERY), include_vectors=True)
    assert all(hit.point.HasField("sparse_vector") for hit in found.hits)
    bare = await search(rung, mixed, sparse_vector=message(QUERY), ids_only=True)
    assert scored(bare) == scored(found)
    assert not any(hit.point.HasField("sparse_vector") or hit.point.text for hit in bare.hits)


async def test_it_is_a_leg_beside_a_text_a_vector_or_a_point(
    rung: Rung, mixed: tuple[str, str]
) -> None:
    sparse = message(QUERY)
    by_vector = {"vector": packed(ROWS[4])}
    for query, legs in (
        (by_vector, ("dense", "sparse")),
        ({"point_id": "p03"}, ("dense", "sparse")),
        ({"text": "ant cat"}, ("lexical", "sparse")),
        ({**by_vector, "mode": pb.SEARCH_MODE_HYBRID}, ("dense", "sparse")),
    ):
        fusion = pb.RankFusion(k=5, sparse_weight=3.0)
        found = await search(
            rung, mixed, **query, sparse_vector=sparse, limit=30, fusion=fusion, explain=True
        )
        alone = await search(rung, mixed, **(query | {"mode": 0}), limit=100)
        both = [scored(alone), wanted(QUERY, 100, without={query.get("point_id", "")})]  # type: ignore[arg-type]
        if "point_id" in query:
            # It is left out after the legs, in whose ranks it stands.
            both = [
                scored(await search(rung, mixed, vector=packed(ROWS[3]), limit=100)),
                wanted(QUERY, 100),
            ]
        fused: dict[str, float] = {}
        for leg, weight in zip(both, (1.0, 3.0), strict=True):
            for rank, (id, _) in enumerate(leg, 1):
                fused[id] = fused.get(id, 0.0) + weight / (5 + rank)
        fused.pop(str(query.get("point_id", "")), None)
        best = sorted(fused.items(), key=lambda item: (-item[1], item[0]))[:30]
        assert [id for id, _ in scored(found)] == [id for id, _ in best]
        assert [score for _, score in scored(found)] == pytest.approx([s for _, s in best])
        by_sparse = dict(wanted(QUERY, 100))
        for hit in found.hits:
            assert hit.HasField("sparse_score") == (hit.point.id in by_sparse)
        assert (
            tuple(search_pb2.SearchLeg.Name(leg.leg)[11:].lower() for leg in found.plan.legs)
            == legs
        )


async def test_a_point_is_found_by_what_its_sparse_vector_is_like(
    rung: Rung, mixed: tuple[str, str]
) -> None:
    found = await search(rung, mixed, point_id="p04", mode=pb.SEARCH_MODE_SPARSE, limit=20)
    assert scored(found) == wanted(SPARSE[4], 20, without={"p04"})


async def test_searches_of_a_batch_may_be_sparse(rung: Rung, mixed: tuple[str, str]) -> None:
    one = pb.SearchCollectionRequest(sparse_vector=message(QUERY), limit=7)
    two = pb.SearchCollectionRequest(vector=packed(ROWS[0]), limit=7)
    batch = pb.BatchSearchCollectionRequest(
        collection=mixed[0], min_watermark=mixed[1], searches=[one, two]
    )
    first, second = (await rung.call("BatchSearchCollection", batch)).responses
    assert scored(first) == wanted(QUERY, 7)
    assert second.hits[0].point.id == "p00"


async def test_replacing_and_deleting_a_point_takes_its_sparse_vector_along(
    rung: Rung, given: Given
) -> None:
    collection = await given.vector_collection()
    points = [point(id, ROWS[0]) for id in "abc"]
    for number, one in enumerate(points, 1):
        one.sparse_vector.CopyFrom(message({5: number}))
    await given.points(collection, points)
    replaced = point("c", ROWS[1])
    mark = await given.points(collection, [replaced])
    at = collection, mark
    assert scored(await search(rung, at, sparse_vector=message({5: 1.0}))) == [("b", 2), ("a", 1)]
    gone = await rung.call("DeletePoints", pb.DeletePointsRequest(collection=collection, ids=["b"]))
    at = collection, gone.watermark
    assert scored(await search(rung, at, sparse_vector=message({5: 1.0}))) == [("a", 1)]
    assert scored(await search(rung, at, sparse_vector=message({6: 1.0}))) == []


async def test_the_plan_says_what_each_leg_did_and_where_the_time_went(
    rung: Rung, mixed: tuple[str, str]
) -> None:
    found = await search(
        rung,
        mixed,
        text="ant",
        sparse_vector=message(QUERY),
        filter=equals("color", "red"),
        rerank=search_pb2.Rerank(method=search_pb2.RERANK_METHOD_SENTENCES),
        explain=True,
    )
    plan = found.plan
    lexical, sparse = plan.legs
    assert plan.strategy == "lexical+sparse"
    assert (lexical.leg, sparse.leg) == (
        search_pb2.SEARCH_LEG_LEXICAL,
        search_pb2.SEARCH_LEG_SPARSE,
    )
    assert sparse.candidates == plan.sparse_candidates == len(wanted(QUERY, 100, color="red"))
    assert lexical.candidates == plan.lexical_candidates > 0
    entries = sum(len(QUERY.keys() & SPARSE[n].keys()) for n in range(COUNT) if n % 3 != 2)
    assert sparse.postings >= entries
    assert (lexical.weight, sparse.weight, sparse.strategy) == (1.0, 1.0, "postings")
    assert plan.selectivity == 0.5
    assert plan.band_selectivity_min == 0.5
    stages = [search_pb2.SearchStage.Name(one.stage)[13:].lower() for one in plan.stages]
    assert stages == [
        *("watermark", "filter", "lexical", "sparse", "fusion", "decode", "rerank", "finish")
    ]
    took = {one.stage: one.took_ms for one in plan.stages}
    assert took[search_pb2.SEARCH_STAGE_SPARSE] == sparse.took_ms > 0
    within = sum(one.took_ms for one in plan.stages) - took[search_pb2.SEARCH_STAGE_WATERMARK]
    timings = found.timings
    assert within <= (timings.search_ms + timings.rerank_ms) * 1.01

    dense = await search(rung, mixed, vector=packed(ROWS[0]), explain=True)
    (leg,) = dense.plan.legs
    assert leg.leg == search_pb2.SEARCH_LEG_DENSE
    assert leg.visited_points == dense.plan.visited_points == COUNT - COUNT // 3
    assert leg.scanned_segments + leg.walked_segments > 0
    assert dense.plan.strategy == leg.strategy == "exact"
    assert not (await search(rung, mixed, vector=packed(ROWS[0]))).HasField("plan")


async def test_beside_a_model_all_three_legs_search_and_nothing_is_embedded_for_it(
    rung: Rung, given: Given
) -> None:
    collection = await given.text_collection()
    facts = ("Rye bread is baked with sourdough.", "A lighthouse warns ships.", "Cats sleep a lot.")
    points = [point(f"t{n}", text=text) for n, text in enumerate(facts)]
    points.append(point("bare"))
    for number, one in enumerate(points):
        one.sparse_vector.CopyFrom(message({9: 1.0 + number}))
    at = collection, await given.points(collection, points)
    bread = {"text": "what is baked with sourdough?", "sparse_vector": message({9: 1.0})}
    found = await search(rung, at, **bread, explain=True)
    assert [leg_name(leg) for leg in found.plan.legs] == ["dense", "lexical", "sparse"]
    by_id = {hit.point.id: hit for hit in found.hits}
    assert by_id["t0"].HasField("dense_score") and by_id["t0"].HasField("lexical_score")
    assert by_id["t0"].sparse_score == 1.0
    assert not by_id["bare"].HasField("dense_score") and by_id["bare"].sparse_score == 4.0
    timings = {one.stage for one in found.plan.stages}
    assert search_pb2.SEARCH_STAGE_EMBED in timings

    sparse = await search(rung, at, **bread, mode=pb.SEARCH_MODE_SPARSE, explain=True)
    assert scored(sparse) == [("bare", 4.0), ("t2", 3.0), ("t1", 2.0), ("t0", 1.0)]
    assert search_pb2.SEARCH_STAGE_EMBED not in {one.stage for one in sparse.plan.stages}
    rerank = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_SENTENCES)
    reranked = await search(rung, at, **bread, mode=pb.SEARCH_MODE_SPARSE, rerank=rerank)
    assert reranked.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
    by_rank = [hit.point.id for hit in reranked.hits]
    assert by_rank.index("t0") < by_rank.index("t1"), "its sentence has the words"
