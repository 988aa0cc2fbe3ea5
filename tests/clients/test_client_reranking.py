"""What the client makes of RerankPassages: one request, and an order that says what it rests on."""

from __future__ import annotations

import grpc
import pytest
import ragmesh
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing

PARTIAL = pb.RerankPassagesResponse(
    passages=[
        pb.RankedPassage(index=1, score=0.75, raw_score=0.5, windows=2, tokens=300),
        pb.RankedPassage(index=0, score=0.0, raw_score=-0.5, windows=1, tokens=9),
        pb.RankedPassage(index=2),
    ],
    partial=True,
    passages_scored=2,
    fingerprint="f",
    timings=pb.EmbedTimings(
        tokenize_ms=1,
        queue_wait_ms=2,
        inference_ms=4,
        batch_texts=8,
        padding_share=0.25,
        lane=pb.LANE_BULK,
        cached_texts=3,
    ),
    query_truncated=True,
)


async def test_every_argument_goes_out_and_every_field_comes_back(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("RerankPassages", PARTIAL)
    result = await client.call(
        "rerank_passages",
        "how fast?",
        iter(["a", "", "c"]),
        model="judge",
        prior_scores=(score for score in (3.0, -2.5, 0.0)),
        truncate=True,
        timeout_s=0.5,
        lane="bulk",
    )
    assert result == ragmesh.Reranking(
        passages=(
            ragmesh.RankedPassage(1, 0.75, 0.5, 2, 300),
            ragmesh.RankedPassage(0, 0.0, -0.5, 1, 9),  # a score of 0 is a score
            ragmesh.RankedPassage(2, None, None, 0, 0),
        ),
        partial=True,
        passages_scored=2,
        fingerprint="f",
        timings=ragmesh.EmbedTimings(1.0, 2.0, 4.0, 8, 0.25, "bulk", 3),
        query_truncated=True,
    )
    (seen,) = script.seen["RerankPassages"]
    assert seen.request == pb.RerankPassagesRequest(
        model="embeddingModels/judge",
        query="how fast?",
        passages=["a", "", "c"],
        prior_scores=[3.0, -2.5, 0.0],
        truncate=True,
    )
    assert seen.metadata["x-ragmesh-lane"] == "bulk"
    assert 0 < seen.time_remaining_s <= 0.5


async def test_nothing_but_query_and_passages_is_needed(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("RerankPassages", pb.RerankPassagesResponse())
    result = await client.call("rerank_passages", "q", ["a"])
    assert (result.passages, result.partial, result.timings.lane) == ((), False, "unspecified")
    wanted = pb.RerankPassagesRequest(model="embeddingModels/default", query="q", passages=["a"])
    assert script.requests("RerankPassages") == [wanted]


async def test_a_reranking_is_never_cut_into_several_requests(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("RerankPassages", pb.RerankPassagesResponse())
    await client.call("rerank_passages", "q", ["a"] * 1_024)
    with pytest.raises(ragmesh.InvalidField, match=r"1025; give the 1,024") as caught:
        await client.call("rerank_passages", "q", ["a"] * 1_025)
    assert caught.value.metadata == {"field": "passages"}
    with pytest.raises(ragmesh.MessageTooLarge, match="16 MiB"):
        await client.call("rerank_passages", "q", ["x" * (9 << 20)] * 2)
    assert [len(request.passages) for request in script.requests("RerankPassages")] == [1_024]


async def test_a_reranking_is_tried_again_as_a_read(
    client: EitherClient, script: ScriptedServer
) -> None:
    gone = failing(grpc.StatusCode.UNAVAILABLE, "draining", reason="NODE_DRAINING")
    script.on("RerankPassages", gone, PARTIAL)
    assert (await client.call("rerank_passages", "q", ["a", "b", "c"])).partial
    assert len(script.seen["RerankPassages"]) == 2


@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (grpc.StatusCode.FAILED_PRECONDITION, "MODEL_TASK_MISMATCH", ragmesh.ModelTaskMismatch),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "MODEL_MEMORY_FULL", ragmesh.ModelMemoryFull),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED", ragmesh.DeadlineExceeded),
    ],
)
async def test_what_can_fail_has_its_class(
    client: EitherClient,
    script: ScriptedServer,
    code: grpc.StatusCode,
    reason: str,
    error: type[ragmesh.RagmeshError],
) -> None:
    script.on("RerankPassages", failing(code, reason=reason))
    with pytest.raises(error) as caught:
        await client.call("rerank_passages", "q", ["a"])
    assert (type(caught.value), caught.value.reason) == (error, reason)
