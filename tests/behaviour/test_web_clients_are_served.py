"""What a browser, a load balancer or a script expects of the one door besides REST."""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import status_pb2
from openapi_spec_validator import validate
from ragmesh.api.documents.v1 import document_service_pb2 as documents
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given, new_id, packed, point, vectors
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import RPCS, GrpcRung, Rung
from tests.behaviour.stack import SplitMesh

ORIGIN = "http://localhost:5173"
WEB = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1", "origin": ORIGIN}


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web answer: flag and bytes."""
    found = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        found.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


def framed(data: bytes) -> bytes:
    return struct.pack(">BI", 0, len(data)) + data


async def test_grpc_web_answers_and_refuses(split_mesh: SplitMesh) -> None:
    path = RPCS["ListCollections"].path
    answer = await split_mesh.http.post(
        path, content=framed(pb.ListCollectionsRequest().SerializeToString()), headers=WEB
    )
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    (_, message), (flag, trailers) = frames(answer.content)
    pb.ListCollectionsResponse.FromString(message)
    assert flag == 0x80
    assert b"grpc-status:0" in trailers
    bad = pb.ListCollectionsRequest(page_size=-1).SerializeToString()
    refused = await split_mesh.http.post(path, content=framed(bad), headers=WEB)
    said = dict(refused.headers)
    for kind, data in frames(refused.content):
        if kind == 0x80:
            said |= dict(line.split(":", 1) for line in data.decode().strip().splitlines())
    assert said["grpc-status"].strip() == str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert "page_size" in said["grpc-message"]


async def test_grpc_web_streams(split_mesh: SplitMesh, split_rungs: dict[str, Rung]) -> None:
    given = Given(split_rungs["rest"])
    collection = await given.text_collection()
    stored = await given.document(collection, f"A text about {new_id()}.", "a.txt")
    request = documents.WatchIngestJobRequest(name=stored.ingest_job.name)
    answer = await split_mesh.http.post(
        RPCS["WatchIngestJob"].path, content=framed(request.SerializeToString()), headers=WEB
    )
    *events, (flag, trailers) = frames(answer.content)
    assert (flag, b"grpc-status:0" in trailers) == (0x80, True)
    last = documents.WatchIngestJobResponse.FromString(events[-1][1])
    assert last.ingest_job.HasField("finish_time")


@pytest.mark.parametrize(("origin", "allowed"), [(ORIGIN, True), ("http://evil.example", False)])
async def test_preflight(split_mesh: SplitMesh, origin: str, allowed: bool) -> None:
    for path in ("/v1/chat:ask", RPCS["ListCollections"].path):
        answer = await split_mesh.http.options(
            path,
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "content-type,x-request-id",
            },
        )
        found = answer.headers.get("access-control-allow-origin")
        assert found == (origin if allowed else None)


async def test_grpc_itself_goes_through_the_same_door(split_mesh: SplitMesh) -> None:
    areas = {method.area for method in RPCS.values()}
    rung = GrpcRung("gateway", [(split_mesh.gateway.listen_address, sorted(areas))])
    try:
        collection = await Given(rung).vector_collection()
        watermark = await Given(rung).points(collection, [point("a", vectors(1)[0])])
        request = pb.SearchCollectionRequest(
            collection=collection, vector=packed(vectors(1)[0]), min_watermark=watermark
        )
        assert (await rung.call("SearchCollection", request)).hits[0].point.id == "a"
        with pytest.raises(Refused) as refused:
            await rung.call("GetCollection", pb.GetCollectionRequest(name="collections/absent"))
        assert refused.value.reason == "COLLECTION_NOT_FOUND"
    finally:
        await rung.close()


async def test_health_readiness_and_the_contract_as_openapi(split_mesh: SplitMesh) -> None:
    assert (await split_mesh.http.get("/healthz")).status_code == 200
    assert (await split_mesh.http.get("/readyz")).status_code == 200
    document = (await split_mesh.http.get("/openapi.json")).json()
    validate(document)
    operations = {
        operation["operationId"].rpartition("_")[2]
        for path in document["paths"].values()
        for operation in path.values()
        if isinstance(operation, dict) and "operationId" in operation
    }
    # The bridge takes bytes of any length, which no RPC does.
    uploads = {"UploadDocument"}
    assert operations == {name for name, method in RPCS.items() if method.has_http} | uploads


async def test_ids_and_watermarks_come_back_in_headers(
    split_mesh: SplitMesh, split_rungs: dict[str, Rung]
) -> None:
    collection = await Given(split_rungs["rest"]).vector_collection()
    mine = new_id("request")
    written = await split_mesh.http.post(
        f"/v1/{collection}/points:upsert",
        json={"points": [{"id": "a", "vector": {"dense": {"values": [1.0] * 8}}}]},
        headers={"x-request-id": mine},
    )
    assert written.headers["x-request-id"] == mine
    watermark = written.headers["x-ragmesh-watermark"]
    assert watermark == written.json()["watermark"]
    counted = await split_mesh.http.post(
        f"/v1/{collection}/points:count", json={}, headers={"x-ragmesh-watermark": watermark}
    )
    assert counted.json()["count"] == 1
    failed = await split_mesh.http.get(
        "/v1/collections/absent", headers={"x-request-id": mine + "-2"}
    )
    assert failed.headers["x-request-id"] == mine + "-2"
    assert failed.json()["details"][0]["metadata"]["request_id"] == mine + "-2"
    made = await split_mesh.http.get("/v1/collections")
    assert made.headers["x-request-id"]


async def test_sse_is_read_while_it_is_written(
    split_mesh: SplitMesh, split_rungs: dict[str, Rung]
) -> None:
    given = Given(split_rungs["rest"])
    collection = await given.text_collection()
    for _ in range(5):  # on a busy machine the work may be done before anybody reads
        text = "\n\n".join(f"Paragraph {i} of {new_id()} tells of the sea." for i in range(150))
        stored = await given.document(collection, text, "sea.txt")
        states, arrived_s = await states_of(split_mesh, stored.ingest_job.name)
        assert states[-1] == "STATE_SUCCEEDED"
        if "STATE_RUNNING" in states:
            break
    assert "STATE_RUNNING" in states
    assert arrived_s[-1] - arrived_s[0] > 0.2


async def states_of(split_mesh: SplitMesh, job: str) -> tuple[list[str], list[float]]:
    """What a job goes through, as server-sent events, and when each arrives."""
    states: list[str] = []
    arrived_s: list[float] = []
    loop = asyncio.get_running_loop()
    async with (
        httpx.AsyncClient(base_url=split_mesh.url, timeout=60) as http,
        http.stream("GET", f"/v1/{job}:watch") as answer,
    ):
        assert answer.headers["content-type"].startswith("text/event-stream")
        async for line in answer.aiter_lines():
            if line:
                states.append(json.loads(line.removeprefix("data: "))["ingestJob"]["state"])
                arrived_s.append(loop.time())
    return states, arrived_s


async def test_failures_of_the_gateway_itself_have_the_same_form(split_mesh: SplitMesh) -> None:
    answer = await split_mesh.http.get("/v1/nothing")
    assert answer.status_code == 404
    assert answer.json()["details"][0]["reason"] == "METHOD_NOT_FOUND"
    channel = grpc.aio.insecure_channel(split_mesh.gateway.listen_address)
    try:
        call: Any = channel.unary_unary("/ragmesh.api.chat.v1.ChatService/Nothing")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", timeout=5)
    finally:
        await channel.close()
    assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED
    trailers = dict(failed.value.trailing_metadata() or ())
    details = trailers["grpc-status-details-bin"]
    assert isinstance(details, bytes)
    status = status_pb2.Status.FromString(details)
    assert Refused(status).reason == "METHOD_NOT_FOUND"
