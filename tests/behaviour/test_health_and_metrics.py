"""What operators see: health, reflection, channelz, figures for each RPC, and logs that say which
request it was and never what was in it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from typing import Any, cast

import grpc
import httpx
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.rpc.methods import services
from tests.behaviour.given import Given, new_id, point
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung
from tests.behaviour.stack import SPLIT, Serving, SplitMesh


@pytest.fixture(params=SPLIT)
async def node(
    request: pytest.FixtureRequest, split_mesh: SplitMesh
) -> AsyncIterator[tuple[Serving, grpc.aio.Channel]]:
    """A node of the split mesh, and a channel to it."""
    serving = split_mesh.nodes[request.param]
    channel = grpc.aio.insecure_channel(serving.address)
    yield serving, channel
    await channel.close()


async def test_health_is_told_for_each_service(node: tuple[Serving, grpc.aio.Channel]) -> None:
    serving, channel = node
    stub: Any = health_pb2_grpc.HealthStub(channel)
    names = ["", *(services()[area].full_name for area in serving.areas)]
    for name in names:
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_what_is_there(node: tuple[Serving, grpc.aio.Channel]) -> None:
    serving, channel = node
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast(Any, channel))
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    async for answer in stub.ServerReflectionInfo(iter([request]), timeout=5):
        listed = {service.name for service in answer.list_services_response.service}
    ours = {services()[area].full_name for area in serving.areas}
    assert {name for name in listed if name.startswith("ragmesh.")} == ours
    assert "grpc.health.v1.Health" in listed


async def test_channelz_answers(node: tuple[Serving, grpc.aio.Channel]) -> None:
    stub: Any = channelz_pb2_grpc.ChannelzStub(cast(Any, node[1]))
    answer = await stub.GetServers(channelz_pb2.GetServersRequest(start_server_id=0), timeout=5)
    assert len(answer.server) >= 1


async def figures(serving: Serving) -> dict[str, float]:
    """All Prometheus samples of a node, by name with labels."""
    async with httpx.AsyncClient() as http:
        text = (await http.get(f"http://{serving.metrics_address}/metrics")).text
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


async def both(split_mesh: SplitMesh, name: str) -> float:
    """A figure, over the two retrieval nodes."""
    nodes = [n for n in split_mesh.nodes.values() if "retrieval" in n.areas]
    return sum([(await figures(n)).get(name, 0.0) for n in nodes])


def counter(rpc: str, code: str) -> str:
    labels = f'{{code="{code}",rpc="{rpc}",service="retrieval"}}'
    return f"ragmesh_rpc_duration_seconds_count{labels}"


async def test_each_rpc_has_rate_errors_and_duration(
    split_mesh: SplitMesh, split_rungs: dict[str, Rung]
) -> None:
    rung = split_rungs["split"]
    collection = await Given(rung).vector_collection()
    good, bad = counter("GetCollection", "OK"), counter("GetCollection", "NOT_FOUND")
    before = await both(split_mesh, good), await both(split_mesh, bad)
    for _ in range(4):
        await rung.call("GetCollection", pb.GetCollectionRequest(name=collection))
    for _ in range(2):
        with pytest.raises(Refused):
            await rung.call("GetCollection", pb.GetCollectionRequest(name="collections/absent"))
    assert await both(split_mesh, good) == before[0] + 4
    assert await both(split_mesh, bad) == before[1] + 2
    seconds = good.replace("_count", "_sum")
    assert 0 < await both(split_mesh, seconds) < 60
    for name in ("ragmesh_index_points", "ragmesh_index_memory_bytes", "ragmesh_index_lag_commits"):
        found = await figures(split_mesh.nodes["retrieval-1"])
        assert name in found


async def test_queues_and_calls_between_nodes_are_counted(
    split_mesh: SplitMesh, split_rungs: dict[str, Rung]
) -> None:
    given = Given(split_rungs["split"])
    collection = await given.text_collection()
    await given.points(collection, [point("a", text="A text to embed.")])
    embedding = await figures(split_mesh.nodes["embedding-1"])
    tokens = [v for k, v in embedding.items() if k.startswith("ragmesh_model_tokens_total")]
    assert sum(tokens) > 0
    remote = 'ragmesh_mesh_calls_total{service="embedding",way="remote"}'
    assert await both(split_mesh, remote) > 0


async def test_logs_name_requests_and_hold_no_contents(
    split_mesh: SplitMesh, split_rungs: dict[str, Rung]
) -> None:
    rung = split_rungs["rest"]
    secret, request_id = f"secret{uuid.uuid4().hex}", new_id("logged")
    given = Given(rung)
    collection = await given.text_collection()
    await given.points(collection, [point("a", text=f"The word is {secret}.", note=secret)])
    text = f"The word of the document is {secret}."
    _, watermark = await given.ingested(collection, text, f"{secret}.txt")
    ask = chat.AskQuestionRequest(
        question=f"What is {secret}?",
        collections=[collection],
        min_watermarks={collection: watermark},
    )
    headers = {"x-request-id": request_id, "authorization": f"Bearer {secret}"}
    await rung.call("AskQuestion", ask, headers=headers)
    wrong = pb.SearchCollectionRequest(collection=collection, text=secret, limit=-1)
    with pytest.raises(Refused):
        await rung.call("SearchCollection", wrong, headers=headers)
    logged = {name: n.log_file.read_text() for name, n in split_mesh.nodes.items()}
    for name, text in logged.items():
        assert secret not in text, name
        assert "RAGMESH_STORE" not in text
        for line in text.splitlines():
            json.loads(line)
    lines = [json.loads(line) for text in logged.values() for line in text.splitlines()]
    of_request = {line["rpc"] for line in lines if line.get("request_id") == request_id}
    assert {"AskQuestion", "SearchCollection", "GenerateText"} <= of_request
    assert secret not in split_mesh.access_log.read_text()
