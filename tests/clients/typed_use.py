"""Read by mypy, never run: each `type: ignore` marks a line that must be refused."""

from __future__ import annotations

from typing import assert_type

import ragmesh
from ragmesh import AsyncClient, Client, Field, Point


def waiting(client: Client) -> None:
    assert_type(client.get_collection("a"), ragmesh.Collection)
    assert_type(client.embed_texts(["a"]).vectors, tuple[ragmesh.Vector, ...])
    assert_type(client.count_tokens(["a"]), list[int])
    ranked = client.rerank_passages("q", ["a"], prior_scores=[0.5])
    assert_type(ranked.passages, tuple[ragmesh.RankedPassage, ...])
    assert_type(ranked.passages[0].score, float | None)
    assert_type(ranked.timings.lane, ragmesh.ServedLane)
    assert_type(client.get_embedding_model().task, ragmesh.ModelTask)
    assert_type(client.delete_document("d", collection="c"), str)
    assert_type(client.list_points("a"), ragmesh.Listing[Point])
    assert_type(client.stream_answer("q", "a"), ragmesh.Stream[ragmesh.AnswerEvent])
    assert_type(client.wait_for_ingest_job("j"), ragmesh.IngestJob)
    for document in client.list_documents("a"):
        assert_type(document, ragmesh.Document)
    for page in client.list_documents("a").pages():
        assert_type(page, ragmesh.Page[ragmesh.Document])
    for job in client.watch_ingest_job("j"):
        assert_type(job.error, ragmesh.RagmeshError | None)
    client.search_collection("a", "x", filter=(Field("year") >= 2020) & ~(Field("a") == "b"))
    client.get_collection()  # type: ignore[call-arg]
    client.rerank_passages(["a"], ["a"])  # type: ignore[arg-type]
    client.get_collection(5)  # type: ignore[arg-type]
    client.search_collection("a", "x", mode="magic")  # type: ignore[arg-type]
    client.search_collection("a", "x", filter=True)  # type: ignore[arg-type]
    client.upsert_points("a", ["p"])  # type: ignore[list-item]
    client.get_collection("a", timeout=3)  # type: ignore[call-arg]
    client.get_collection("a").name = "b"  # type: ignore[misc]


async def awaited(client: AsyncClient) -> None:
    assert_type(await client.rerank_passages("q", ["a"]), ragmesh.Reranking)
    assert_type(await client.get_collection("a"), ragmesh.Collection)
    assert_type(client.list_points("a"), ragmesh.AsyncListing[Point])
    async for document in client.list_documents("a"):
        assert_type(document, ragmesh.Document)
    async for page in client.list_documents("a").pages():
        assert_type(page, ragmesh.Page[ragmesh.Document])
    async with client.stream_answer("q", ["a"]) as events:
        async for event in events:
            assert_type(event, ragmesh.AnswerEvent)
    client.get_collection("a").name  # type: ignore[attr-defined]  # noqa: B018
