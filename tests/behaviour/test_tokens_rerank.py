"""A collection that keeps the vectors of its tokens reranks by late interaction with them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from engine.index.reranking import TOKENS_WEIGHT
from tests.behaviour.given import Given, abstracts, point
from tests.behaviour.rungs import Rung

MODEL = "embeddingModels/default"

_MADE: dict[str, tuple[str, str]] = {}

Response = pb.SearchCollectionResponse


@pytest.fixture
async def kept(rung: Rung, given: Given) -> tuple[str, str]:
    """A collection of abstracts with their tokens, and its watermark; once for each mesh."""
    mesh = "one" if rung.name in ("process", "grpc") else "split"
    if mesh not in _MADE:
        collection = await given.text_collection(token_store=True)
        points = [point(a["_id"], text=a["text"][:800]) for a in abstracts()[:40]]
        await given.points(collection, points[:20])
        _MADE[mesh] = collection, await given.points(collection, points[20:])
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


async def late_interaction(rung: Rung, query: str, texts: list[str]) -> list[float]:
    """How the tokens of a query and of each text meet."""
    small = []
    for kind, some in (
        (embedding.INPUT_KIND_QUERY, [query]),
        (embedding.INPUT_KIND_PASSAGE, texts),
    ):
        request = embedding.EmbedTextsRequest(
            model=MODEL, texts=some, input_kind=kind, truncate=True, include_tokens=True
        )
        for one in (await rung.call("EmbedTexts", request)).embeddings:
            width = one.token_vectors.dimensions
            rows = np.frombuffer(one.token_vectors.int8_vectors, np.int8).reshape(-1, width)
            assert len(rows) == one.tokens - 2, "all but the two special ones"
            small.append(rows.astype(np.float64) / 127)
    return [float((small[0] @ rows.T).max(axis=1).mean()) for rows in small[1:]]


async def test_tokens_reorder_as_late_interaction_says(rung: Rung, kept: tuple[str, str]) -> None:
    by_tokens = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_TOKENS, candidates=12)
    for a in abstracts()[3:6]:
        question = a["text"].split(". ")[1]
        for mode in (pb.SEARCH_MODE_HYBRID, pb.SEARCH_MODE_LEXICAL):
            plain = await search(rung, kept, text=question, limit=15, mode=mode)
            found = await search(rung, kept, text=question, limit=15, mode=mode, rerank=by_tokens)
            assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
            check_order(found)
            assert ids(found)[12:] == ids(plain)[12:]
            best = plain.hits[:12]
            met = await late_interaction(rung, question, [hit.point.text for hit in best])
            blended = z([hit.score for hit in best]) + TOKENS_WEIGHT * z(met)
            wanted = {hit.point.id: one for hit, one in zip(best, blended, strict=True)}
            got = {hit.point.id: hit.rerank_score for hit in found.hits[:12]}
            assert got == pytest.approx(
                {id: (1 + math.tanh(one / 2)) / 2 for id, one in wanted.items()}, abs=0.02
            )


def z(values: list[float]) -> NDArray[np.float64]:
    row = np.array(values)
    deviations: NDArray[np.float64] = (row - row.mean()) / row.std()
    return deviations


async def test_tokens_are_the_default_where_they_are_kept(
    rung: Rung, kept: tuple[str, str]
) -> None:
    question = abstracts()[5]["text"].split(". ")[1]
    by_tokens = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_TOKENS)
    said = await search(rung, kept, text=question, rerank=by_tokens)
    by_default = await search(rung, kept, text=question, rerank=search_pb2.Rerank())
    batch = await rung.call(
        "BatchSearchCollection",
        pb.BatchSearchCollectionRequest(
            collection=kept[0],
            min_watermark=kept[1],
            searches=[
                pb.SearchCollectionRequest(text=question, limit=10, rerank=by_tokens),
                pb.SearchCollectionRequest(text=question, limit=10),
            ],
        ),
    )
    plain = await search(rung, kept, text=question)
    assert ids(said) == ids(by_default) == ids(batch.responses[0])
    assert ids(batch.responses[1]) == ids(plain)


async def test_token_stores_say_what_they_take(
    rung: Rung, given: Given, kept: tuple[str, str]
) -> None:
    texts = await given.text_collection()
    without = texts, await given.points(texts, [point("a", text="cells")])
    counted = await rung.call(
        "CountTokens",
        embedding.CountTokensRequest(
            model=MODEL, texts=[a["text"][:800] for a in abstracts()[:40]]
        ),
    )
    for at, wanted in ((kept, True), (without, False)):
        await search(rung, at, text="cells")
        collection = await rung.call("GetCollection", pb.GetCollectionRequest(name=at[0]))
        assert collection.collection.token_store is wanted
        request = pb.GetCollectionStatsRequest(name=at[0])
        headers = {"x-ragmesh-watermark": at[1]}
        stats = await rung.call("GetCollectionStats", request, headers=headers)
        whole = sum(min(count, 254) for count in counted.tokens) * 384
        assert stats.token_bytes == (whole if wanted else 0)


async def test_passages_of_documents_bring_their_tokens_where_they_are_kept(
    rung: Rung, given: Given
) -> None:
    text = ". ".join(a["text"] for a in abstracts()[:3])
    taken = []
    # In this order: the passages of the second are others than those of the first.
    for token_store in (False, True):
        collection = await given.text_collection(token_store=token_store)
        document, watermark = await given.ingested(collection, text, "abstracts.txt")
        await search(rung, (collection, watermark), text="cells")
        request = pb.GetCollectionStatsRequest(name=collection)
        headers = {"x-ragmesh-watermark": watermark}
        stats = await rung.call("GetCollectionStats", request, headers=headers)
        taken.append(stats.token_bytes)
        if token_store:
            by_tokens = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_TOKENS)
            question = abstracts()[1]["text"][:100]
            found = await search(rung, (collection, watermark), text=question, rerank=by_tokens)
            assert found.rerank_outcome == search_pb2.RERANK_OUTCOME_DONE
            assert all(hit.HasField("rerank_score") for hit in found.hits)
            assert found.hits[0].point.document == document.name
    assert taken[0] == 0
    assert taken[1] > 100 * 384
