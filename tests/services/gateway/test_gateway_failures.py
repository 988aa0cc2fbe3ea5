"""Every failure of Envoy's own looks like a failure of a service: JSON over REST with an ErrorInfo
and the request id, a proper status with details over gRPC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2, status_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import embedding_service_pb2_grpc as embedding_grpc
from ragmesh.api.errors.v1.reason_pb2 import Reason

from services.gateway.replies import replies
from tests.services.gateway.harness import MIB, Gateway

MakeGateway = Callable[..., Awaitable[Gateway]]


def error_info(answer: httpx.Response) -> dict[str, Any]:
    """The ErrorInfo of a REST failure, checked for what all of them have."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["message"]
    info: dict[str, Any] = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "ragmesh"
    if "x-request-id" in answer.headers:
        assert info["metadata"]["request_id"] == answer.headers["x-request-id"]
    return info


def grpc_reason(error: grpc.aio.AioRpcError) -> str:
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (error.code().value[0], error.details())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "ragmesh"
    return str(info.reason)


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "reason", "said"),
    [
        ("POST", "/v1/embeddingModels/m:embed", b'{"texts": [', 400, "MALFORMED_MESSAGE", "string"),
        ("POST", "/v1/embeddingModels/m:embed", b'{"texts": 5}', 400, "MALFORMED_MESSAGE", "texts"),
        ("POST", "/v1/embeddingModels/m:embed", b"\xff\xfe", 400, "MALFORMED_MESSAGE", ""),
        ("GET", "/v1/embeddingModels?nope=1", b"", 400, "INVALID_FIELD", "nope"),
        ("GET", "/v1/embeddingModels?pageSize=x", b"", 400, "INVALID_FIELD", "x"),
        ("GET", "/v1/nope", b"", 404, "METHOD_NOT_FOUND", "openapi.json"),
        ("DELETE", "/v1/embeddingModels/m", b"", 404, "METHOD_NOT_FOUND", "openapi.json"),
        ("POST", "/healthz", b"", 404, "METHOD_NOT_FOUND", "openapi.json"),
        ("GET", "/", b"", 404, "METHOD_NOT_FOUND", "openapi.json"),
        ("GET", "/v1%2Fx", b"", 400, "MALFORMED_MESSAGE", "path"),
    ],
)
async def test_bad_requests_get_json_with_a_reason(
    gateway: Gateway,
    method: str,
    path: str,
    content: bytes,
    status: int,
    reason: str,
    said: str,
) -> None:
    answer = await gateway.http.request(method, path, content=content)
    assert answer.status_code == status
    assert error_info(answer)["reason"] == reason
    assert said in answer.json()["message"]


async def test_a_failure_of_a_service_keeps_its_details_over_rest(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/embeddingModels/missing")
    assert answer.status_code == 404
    body = answer.json()
    assert (body["code"], body["message"]) == (5, "no model 'embeddingModels/missing'")
    assert body["details"][0]["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert body["details"][0]["reason"] == "EMBEDDING_MODEL_NOT_FOUND"


async def _pieces(size: int) -> AsyncIterator[bytes]:
    yield b'{"texts": ["'
    for _ in range(size // MIB):
        yield b"x" * MIB
    yield b'"]}'


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_17_mib_is_refused_with_the_limit(gateway: Gateway, chunked: bool) -> None:
    content = _pieces(17 * MIB) if chunked else b'{"texts": ["' + b"x" * 17 * MIB + b'"]}'
    answer = await gateway.http.post("/v1/embeddingModels/m:embed", content=content)
    assert answer.status_code == 413
    info = error_info(answer)
    assert info["reason"] == "MESSAGE_TOO_LARGE"
    assert info["metadata"]["limit_bytes"] == str(16 * MIB)
    assert "16 MiB" in answer.json()["message"]


async def test_an_answer_of_17_mib_is_refused_with_the_limit(gateway: Gateway) -> None:
    answer = await gateway.http.get("/v1/embeddingModels", params={"pageToken": "large"})
    assert answer.status_code == 500
    assert error_info(answer)["reason"] == "MESSAGE_TOO_LARGE"
    assert "16 MiB" in answer.json()["message"]


async def test_unknown_methods_over_grpc_are_unimplemented(gateway: Gateway) -> None:
    call: Any = gateway.channel.unary_unary("/nope.Nope/Nope")
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call(b"")
    assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert grpc_reason(failure.value) == "METHOD_NOT_FOUND"


async def test_unknown_methods_over_grpc_web_are_unimplemented(gateway: Gateway) -> None:
    answer = await gateway.http.post(
        "/nope.Nope/Nope",
        content=b"\0" * 5,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/grpc-web+proto"
    assert answer.content == b""
    assert answer.headers["grpc-status"] == "12"
    assert "openapi.json" in answer.headers["grpc-message"]


async def test_no_node_is_unavailable_everywhere(make_gateway: MakeGateway) -> None:
    own = await make_gateway("only")
    own.registry.show(replace(own.nodes[0].lease, state="DRAINING"))
    await own.gone_within(2.0)
    answer = await own.http.get("/v1/embeddingModels")
    assert answer.status_code == 503
    assert error_info(answer)["reason"] == "SERVICE_UNAVAILABLE"
    assert answer.json()["details"][1]["retryDelay"] == "1s"
    assert answer.headers["retry-after"] == "1"
    ready = await own.http.get("/readyz")
    assert (ready.status_code, error_info(ready)["reason"]) == (503, "SERVICE_UNAVAILABLE")
    stub = embedding_grpc.EmbeddingServiceStub(own.channel)
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await stub.ListEmbeddingModels(embedding.ListEmbeddingModelsRequest())
    assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
    assert grpc_reason(failure.value) == "SERVICE_UNAVAILABLE"


async def test_too_many_requests_are_told_so(make_gateway: MakeGateway) -> None:
    own = await make_gateway("only", requests_per_s=1, requests_burst=5)
    stub = embedding_grpc.EmbeddingServiceStub(own.channel)
    answers = [await own.http.get("/v1/embeddingModels") for _ in range(8)]
    refused = answers[-1]
    assert refused.status_code == 429
    assert error_info(refused)["reason"] == "RATE_LIMITED"
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["details"][1]["retryDelay"] == "1s"
    calls = [stub.ListEmbeddingModels(embedding.ListEmbeddingModelsRequest()) for _ in range(8)]
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await asyncio.gather(*calls)
    assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert grpc_reason(failure.value) == "RATE_LIMITED"
    # A busy gateway is alive.
    assert (await own.http.get("/healthz")).status_code == 200


async def test_every_reason_is_in_the_contract(gateway: Gateway) -> None:
    for reply in replies(gateway.settings):
        assert Reason.Value(f"REASON_{reply.reason}") > 0
