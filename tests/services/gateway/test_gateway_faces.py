"""One port speaks REST, SSE, gRPC and gRPC-Web to the same services."""

from __future__ import annotations

import asyncio
import json
import struct
import time

import grpc
import pytest
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.chat.v1 import chat_service_pb2_grpc as chat_grpc
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc

from tests.services.gateway.harness import EVENT_PAUSE_S, MIB, Gateway, until

LIST_PATH = "/ragmesh.api.embedding.v1.EmbeddingService/ListEmbeddingModels"
ORIGIN = "http://localhost:5173"


async def test_rest_answers_in_camel_case_with_defaults_printed(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/embeddingModels", params={"pageSize": 5})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["embeddingModels"][0]["dimensions"] == 384
    assert body["embeddingModels"][0]["tokensMax"] == 0
    assert body["nextPageToken"] == ""


async def test_path_variables_reach_the_service(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        "/v1/embeddingModels/mini:embed",
        json={"texts": ["a", "abc"], "inputKind": "INPUT_KIND_QUERY"},
    )
    assert answer.json()["fingerprint"] == "embeddingModels/mini"
    assert [e["tokens"] for e in answer.json()["embeddings"]] == [1, 3]


async def test_sse_events_arrive_one_by_one(gateway: Gateway) -> None:
    arrivals: list[tuple[float, dict[str, object]]] = []
    request = {"question": "one two three", "collections": ["collections/x"]}
    async with gateway.http.stream("POST", "/v1/chat:stream", json=request) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        async for line in answer.aiter_lines():
            if line:
                assert line.startswith("data: ")
                arrivals.append((time.monotonic(), json.loads(line.removeprefix("data: "))))
    assert [event["eventId"] for _, event in arrivals] == [1, 2, 3, 4]
    assert "finished" in arrivals[-1][1]
    assert arrivals[-1][0] - arrivals[0][0] > 2 * EVENT_PAUSE_S


async def test_grpc_unary_and_stream_through_envoy(gateway: Gateway) -> None:
    stub = embedding_grpc.EmbeddingServiceStub(gateway.channel)
    answer = await stub.ListEmbeddingModels(embedding.ListEmbeddingModelsRequest())
    assert answer.embedding_models[0].dimensions == 384
    chats = chat_grpc.ChatServiceStub(gateway.channel)
    events = chats.StreamAnswer(chat.StreamAnswerRequest(question="a b"))
    words = [event.delta.text or event.WhichOneof("event") async for event in events]
    assert words == ["a", "b", "finished"]


async def test_grpc_web_from_a_browser(gateway: Gateway) -> None:
    frame = struct.pack(">BI", 0, 0)
    answer = await gateway.http.post(
        LIST_PATH,
        content=frame,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": ORIGIN},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    flag, size = struct.unpack(">BI", answer.content[:5])
    message = embedding.ListEmbeddingModelsResponse.FromString(answer.content[5 : 5 + size])
    assert (flag, message.embedding_models[0].dimensions) == (0, 384)
    trailers = answer.content[5 + size :]
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (ORIGIN, True),
        ("http://127.0.0.1:80", True),
        ("https://localhost", True),
        ("http://localhost.evil.example", False),
        ("http://evil.example", False),
    ],
)
async def test_preflight_allows_local_pages_only(
    gateway: Gateway, origin: str, allowed: bool
) -> None:
    answer = await gateway.http.options(
        "/v1/chat:ask", headers={"origin": origin, "access-control-request-method": "POST"}
    )
    assert answer.headers.get("access-control-allow-origin") == (origin if allowed else None)


async def test_request_id_is_kept_made_and_returned(gateway: Gateway) -> None:
    given = await gateway.http.get("/v1/embeddingModels", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    assert any(n.embedding.metadata.get("x-request-id") == "mine-1" for n in gateway.nodes)
    made = await gateway.http.get("/v1/embeddingModels")
    assert len(made.headers["x-request-id"]) == 36


async def test_a_caller_cannot_choose_a_tenant(gateway: Gateway) -> None:
    headers = {"x-ragmesh-tenant": "someone", "x-request-id": "tenant-test"}
    await gateway.http.get("/v1/embeddingModels", headers=headers)
    stub = embedding_grpc.EmbeddingServiceStub(gateway.channel)
    await stub.ListEmbeddingModels(
        embedding.ListEmbeddingModelsRequest(), metadata=tuple(headers.items())
    )
    seen = [n.embedding.metadata for n in gateway.nodes]
    assert any(m.get("x-request-id") == "tenant-test" for m in seen)
    assert not any("x-ragmesh-tenant" in m for m in seen)


async def test_a_deadline_reaches_the_node_and_is_kept(gateway: Gateway) -> None:
    stub = embedding_grpc.EmbeddingServiceStub(gateway.channel)
    for node in gateway.nodes:
        node.embedding.busy_s = 2.0
    try:
        started_s = time.monotonic()
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await stub.ListEmbeddingModels(embedding.ListEmbeddingModelsRequest(), timeout=0.3)
        over_rest = await gateway.http.get("/v1/embeddingModels", headers={"grpc-timeout": "300m"})
    finally:
        for node in gateway.nodes:
            node.embedding.busy_s = 0.0
    assert failure.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert over_rest.status_code == 504
    assert over_rest.json()["code"] == 4
    assert time.monotonic() - started_s < 1.5


async def test_health_readiness_and_openapi(gateway: Gateway) -> None:
    assert (await gateway.http.get("/healthz")).text == "ok"
    assert (await gateway.http.get("/readyz")).status_code == 200
    answer = await gateway.http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == gateway.settings.openapi
    assert answer.json()["openapi"] == "3.1.0"


async def test_access_log_has_the_call_and_no_secret(gateway: Gateway) -> None:
    await gateway.http.post(
        "/v1/embeddingModels/mini:embed?truncate=true",
        json={"texts": ["secret-text"]},
        headers={"authorization": "Bearer secret-key", "x-request-id": "log-1"},
    )
    await gateway.http.get(
        "/v1/embeddingModels",
        params={"pageToken": "secret-query"},
        headers={"x-request-id": "log-2"},
    )
    path = gateway.directory / "access.log"

    async def logged() -> bool:
        return '"log-2"' in path.read_text()

    await until(logged, 5, "access log")
    text = path.read_text()
    lines = [json.loads(line) for line in text.splitlines() if line.strip()]
    entry = next(e for e in lines if e["request_id"] == "log-2")
    assert entry["path"] == "/v1/embeddingModels"
    assert entry["status"] == 200
    assert entry["cluster"] == "embedding"
    assert "secret" not in text


async def test_the_largest_allowed_body_passes(gateway: Gateway) -> None:
    # Less than the limit by the model's name, which the path adds to the message.
    text = "x" * (16 * MIB - 64)
    answer = await gateway.http.post("/v1/embeddingModels/m:embed", json={"texts": [text]})
    assert answer.status_code == 200
    assert answer.json()["embeddings"][0]["tokens"] == len(text)


async def test_calls_of_one_connection_spread_over_nodes(gateway: Gateway) -> None:
    before = [n.embedding.calls for n in gateway.nodes]
    stub = embedding_grpc.EmbeddingServiceStub(gateway.channel)
    request = embedding.ListEmbeddingModelsRequest()
    await asyncio.gather(*(stub.ListEmbeddingModels(request) for _ in range(60)))
    gained = [n.embedding.calls - b for n, b in zip(gateway.nodes, before, strict=True)]
    assert sum(gained) == 60
    assert min(gained) >= 10
