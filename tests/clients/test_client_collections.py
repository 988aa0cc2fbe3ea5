"""What the client says of collections: limits and recall go out and come back as they are."""

from __future__ import annotations

import dataclasses

import grpc
import pytest
import ragmesh
from ragmesh import BandRecall, CollectionLimits, RecallSettings
from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing

LIMITS = CollectionLimits(
    **{field.name: n for n, field in enumerate(dataclasses.fields(CollectionLimits), 1)}
)
RECALL = RecallSettings(sample_share=0.5, target=0.0)


def collection(**fields: object) -> collection_pb2.Collection:
    return collection_pb2.Collection(name="collections/a", **fields)  # type: ignore[arg-type]


async def test_limits_and_recall_go_out_and_come_back(
    client: EitherClient, script: ScriptedServer
) -> None:
    limits = collection_pb2.CollectionLimits(**dataclasses.asdict(LIMITS))
    recall = collection_pb2.RecallSettings(sample_share=0.5, target=0)
    answer = collection(limits=limits, recall=recall)
    script.on("CreateCollection", pb.CreateCollectionResponse(collection=answer))
    script.on("UpdateCollection", pb.UpdateCollectionResponse(collection=answer))
    for method, rpc, arguments in (
        ("create_collection", "CreateCollection", ()),
        ("update_collection", "UpdateCollection", ("a",)),
    ):
        made = await client.call(method, *arguments, limits=LIMITS, recall=RECALL)
        assert (made.limits, made.recall) == (LIMITS, RECALL)
        (request,) = script.requests(rpc)
        assert (request.collection.limits, request.collection.recall) == (limits, recall)
    assert sorted(request.update_mask.paths) == ["limits", "recall"]


async def test_what_is_not_given_is_left_to_the_server(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("CreateCollection", pb.CreateCollectionResponse(collection=collection()))
    await client.call("create_collection")
    (request,) = script.requests("CreateCollection")
    assert not request.collection.HasField("limits") and not request.collection.HasField("recall")


async def test_an_older_server_knows_no_limits(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("GetCollection", pb.GetCollectionResponse(collection=collection()))
    assert (await client.call("get_collection", "a")).limits == CollectionLimits()


async def test_figures_have_what_was_seen_of_each_band(
    client: EitherClient, script: ScriptedServer
) -> None:
    seen = [
        BandRecall(1.0, 0.99, 0.98, 0.995, 1_000, 64),
        BandRecall(0.01, 1.0, 0.9, 1.0, 40, 0),
    ]
    answer = pb.GetCollectionStatsResponse(
        recall=[pb.BandRecall(**dataclasses.asdict(one)) for one in seen],
        refusal_reason="INDEX_MEMORY_FULL",
    )
    script.on("GetCollectionStats", answer)
    stats = await client.call("get_collection_stats", "a")
    assert stats.recall == tuple(seen)
    assert stats.refusal_reason == "INDEX_MEMORY_FULL"


@pytest.mark.parametrize(
    ("reason", "error"),
    [("RATE_LIMITED", ragmesh.RateLimited), ("INDEX_MEMORY_FULL", ragmesh.IndexMemoryFull)],
)
async def test_what_says_when_to_come_back_is_tried_again(
    client: EitherClient, script: ScriptedServer, reason: str, error: type[ragmesh.RagmeshError]
) -> None:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    later = failing(code, reason=reason, retry_after_s=0.02)
    done = pb.UpsertPointsResponse(watermark="1", upserted=1)
    script.on("UpsertPoints", later, done)
    await client.call("upsert_points", "a", [ragmesh.Point("p", [1.0])])
    script.on("UpsertPoints", later)
    with pytest.raises(error):
        await client.call("upsert_points", "a", [ragmesh.Point("p", [1.0])])
