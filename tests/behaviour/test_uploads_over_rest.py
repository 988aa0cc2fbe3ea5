"""A file of any size is taken over REST as it comes; one that is cut leaves nothing; where too many
come at once, some are told to come back."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import psutil
import pytest
import pytest_asyncio
from google.protobuf import json_format
from ragmesh.api.documents.v1 import document_service_pb2 as documents

from tests.behaviour.given import CORPUS, Given, new_id
from tests.behaviour.rungs import Rung
from tests.behaviour.stack import STALL_S, UPLOADS_MAX, SplitMesh

MIB = 1 << 20
TEXT = b"# Rivers\n\nThe Aare flows through Bern.\n"


@pytest_asyncio.fixture
async def given(split_rungs: dict[str, Rung]) -> Given:
    return Given(split_rungs["rest"])


@pytest_asyncio.fixture
async def collection(given: Given) -> str:
    return await given.text_collection()


def url(collection: str) -> str:
    return f"/v1/{collection}/documents:upload"


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["details"][0]["reason"])


def left(mesh: SplitMesh) -> set[str]:
    """Every file in the object store, whole or not."""
    root = mesh.objects / "files"
    return {path.name for path in root.iterdir()} if root.exists() else set()


async def listed(mesh: SplitMesh, collection: str) -> list[dict[str, Any]]:
    answer = await mesh.http.get(f"/v1/{collection}/documents")
    return list(answer.json()["documents"])


async def until(condition: Callable[[], bool], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("form", [False, True], ids=["raw", "form"])
async def test_an_upload_is_as_a_document_that_came_with_its_request(
    split_mesh: SplitMesh, given: Given, collection: str, form: bool
) -> None:
    data = (CORPUS / "files" / "retrieval-notes.pdf").read_bytes()
    said = {"documentId": new_id(), "source_uri": "file:///notes.pdf", "payload": '{"year": 2024}'}
    name = "Notizen über Suche.pdf"
    if form:
        file = {"file": (name, data, "application/pdf")}
        answer = await split_mesh.http.post(url(collection), data=said, files=file)
    else:
        headers = {"content-type": "application/pdf"}
        query = {**said, "displayName": name}
        answer = await split_mesh.http.post(
            url(collection), params=query, content=data, headers=headers
        )
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-request-id"] and answer.headers["content-type"] == "application/json"
    response = json_format.Parse(answer.text, documents.UploadDocumentResponse())
    document = response.document
    assert document.name == f"{collection}/documents/{said['documentId']}"
    assert (document.display_name, document.source_uri) == (name, said["source_uri"])
    assert (document.media_type, document.size_bytes) == ("application/pdf", len(data))
    assert document.content_sha256 == hashlib.sha256(data).hexdigest()
    assert dict(document.payload) == {"year": 2024}
    shown = (await split_mesh.http.get(f"/v1/{document.name}")).json()["document"]
    fixed = {"state", "updateTime", "passages", "textCharacters", "title", "fingerprint"}
    sent = answer.json()["document"]
    assert set(sent) == set(shown)  # printed as the transcoder prints
    assert {k: v for k, v in sent.items() if k not in fixed} == {
        k: v for k, v in shown.items() if k not in fixed
    }
    job = await given.finished(response.ingest_job.name)
    assert job.state == job.STATE_SUCCEEDED


async def test_an_upload_may_be_a_new_version_of_a_document(
    split_mesh: SplitMesh, given: Given, collection: str
) -> None:
    query = {"document_id": "rivers", "display_name": "a.md"}
    first = await split_mesh.http.post(url(collection), params=query, content=TEXT)
    await given.finished(first.json()["ingestJob"]["name"])
    again = await split_mesh.http.post(url(collection), params=query, content=TEXT)
    assert (again.status_code, reason(again)) == (409, "DOCUMENT_EXISTS")
    query["replaceExisting"] = "true"
    second = await split_mesh.http.post(url(collection), params=query, content=TEXT + b"More.\n")
    assert second.json()["document"]["state"] == "STATE_ACTIVE"
    job = await given.finished(second.json()["ingestJob"]["name"])
    assert job.state == job.STATE_SUCCEEDED
    (found,) = await listed(split_mesh, collection)
    assert found["sizeBytes"] == len(TEXT + b"More.\n")


async def test_an_upload_that_is_repeated_is_answered_once(
    split_mesh: SplitMesh, collection: str
) -> None:
    query = {"request_id": str(uuid.uuid4()), "display_name": "a.md"}
    answers = [
        await split_mesh.http.post(url(collection), params=query, content=data)
        for data in (TEXT, TEXT, TEXT + b"more")
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 409]
    assert answers[0].json() == answers[1].json()
    assert reason(answers[2]) == "REQUEST_ID_REUSED"
    assert len(await listed(split_mesh, collection)) == 1


async def _answer_of(mesh: SplitMesh, collection: str, header: str, body: bytes = b"") -> bytes:
    """What is answered to a body that never comes."""
    host, port = mesh.gateway.listen_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST {url(collection)} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n"
    writer.write(head.encode() + body)
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"}}]}")
    writer.close()
    return answer


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "neither true nor false": (
        {"params": {"replaceExisting": "perhaps"}, "content": TEXT},
        400,
        "replace_existing",
    ),
    "a field that is not known": ({"params": {"colour": "red"}, "content": TEXT}, 400, "colour"),
    "a field twice": (
        {"params": [("display_name", "a"), ("displayName", "b")], "content": TEXT},
        400,
        "twice",
    ),
    "a payload that is no object": (
        {"params": {"payload": "[1]"}, "content": TEXT},
        400,
        "payload",
    ),
    "an id that is none": ({"params": {"document_id": "A B"}, "content": TEXT}, 400, "document_id"),
    "nothing": ({"params": {"display_name": "a.md"}, "content": b""}, 400, "empty"),
    "a form without a file": ({"files": {"source_uri": (None, "x")}}, 400, "no file"),
    "two files": (
        {"files": [("file", ("a.md", TEXT)), ("other", ("b.md", TEXT))]},
        400,
        "One file",
    ),
    "a form without a boundary": (
        {"content": TEXT, "headers": {"content-type": "multipart/form-data"}},
        400,
        "boundary",
    ),
    "a form that is cut": (
        {
            "content": b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\nhalf',
            "headers": {"content-type": "multipart/form-data; boundary=x"},
        },
        400,
        "was cut",
    ),
    "a form that is none": (
        {"content": TEXT, "headers": {"content-type": "multipart/form-data; boundary=x"}},
        400,
        "multipart",
    ),
    "a deadline that is over": (
        {"content": TEXT, "headers": {"grpc-timeout": "1n"}},
        504,
        "deadline",
    ),
    "a deadline that is none": (
        {"content": TEXT, "headers": {"grpc-timeout": "soon"}},
        400,
        "grpc-timeout",
    ),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_is_refused_with_a_reason_and_leaves_nothing(
    split_mesh: SplitMesh, collection: str, case: str
) -> None:
    sent, status, told = BAD[case]
    before = left(split_mesh)
    answer = await split_mesh.http.post(url(collection), **sent)
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert told in body["message"]
    info = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["metadata"]["request_id"] == answer.headers["x-request-id"]
    assert await listed(split_mesh, collection) == []
    await until(lambda: left(split_mesh) <= before)


async def test_no_collection_is_told_before_the_body_has_come(split_mesh: SplitMesh) -> None:
    chunked = "transfer-encoding: chunked"
    answer = await _answer_of(split_mesh, "collections/none", chunked, b"5\r\nhello\r\n")
    assert answer.startswith(b"HTTP/1.1 404 ") and b"COLLECTION_NOT_FOUND" in answer


async def test_who_reads_nothing_until_all_is_sent_still_learns_why(
    split_mesh: SplitMesh,
) -> None:
    before = left(split_mesh)
    answer = await split_mesh.http.post(url("collections/none"), content=bytes(100 * MIB))
    assert (answer.status_code, reason(answer)) == (404, "COLLECTION_NOT_FOUND")
    assert left(split_mesh) <= before


async def test_who_pauses_on_the_way_and_reads_only_then_learns_why(split_mesh: SplitMesh) -> None:
    """A machine that is busy, a radio link."""
    host, port = split_mesh.gateway.listen_address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    size = 24 * MIB
    head = f"POST {url('collections/none')} HTTP/1.1\r\nhost: x\r\ncontent-length: {size}\r\n\r\n"
    writer.write(head.encode())
    async with asyncio.timeout(30):
        for pause_s in (1.2, 1.2, 0.0):
            writer.write(bytes(size // 3))
            await writer.drain()
            await asyncio.sleep(pause_s)
        answer = await reader.readuntil(b"}}]}")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 404 ") and b"COLLECTION_NOT_FOUND" in answer


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes(
    split_mesh: SplitMesh, collection: str
) -> None:
    size = 10 << 30
    answer = await _answer_of(split_mesh, collection, f"content-length: {size}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"MESSAGE_TOO_LARGE" in answer and f'"size_bytes":"{size}"'.encode() in answer


async def test_a_file_that_turns_out_too_large_is_refused(
    split_mesh: SplitMesh, collection: str
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(257):
            yield bytes(MIB)

    before = left(split_mesh)
    answer = await split_mesh.http.post(url(collection), content=chunks())
    assert (answer.status_code, reason(answer)) == (413, "MESSAGE_TOO_LARGE")
    await until(lambda: left(split_mesh) <= before)


async def test_an_upload_that_is_cut_leaves_nothing(split_mesh: SplitMesh, collection: str) -> None:
    before, arrived = left(split_mesh), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield bytes(8 * MIB)
        await until(lambda: left(split_mesh) > before)
        arrived.set()
        await asyncio.sleep(60)

    cut = [
        asyncio.create_task(split_mesh.http.post(url(collection), content=half())) for _ in range(3)
    ]
    await arrived.wait()
    for task in cut:
        task.cancel()
    await asyncio.gather(*cut, return_exceptions=True)
    await until(lambda: left(split_mesh) <= before)
    assert await listed(split_mesh, collection) == []


async def test_an_upload_that_stalls_is_ended(split_mesh: SplitMesh, collection: str) -> None:
    before = left(split_mesh)

    async def stalls() -> AsyncIterator[bytes]:
        yield bytes(MIB)
        await asyncio.sleep(STALL_S + 2)

    answer = await split_mesh.http.post(url(collection), content=stalls())
    assert (answer.status_code, reason(answer)) == (504, "DEADLINE_EXCEEDED")
    await until(lambda: left(split_mesh) <= before)


async def test_too_many_at_once_are_told_to_come_back_and_all_come_through(
    split_mesh: SplitMesh, collection: str
) -> None:
    refused = 0

    async def upload(number: int) -> None:
        nonlocal refused
        data = f"# Paper {number}\n\nIts text.\n".encode() * 2_000

        async def slow() -> AsyncIterator[bytes]:
            for start in range(0, len(data), 16_384):
                yield data[start : start + 16_384]
                await asyncio.sleep(0.01)

        query = {"display_name": f"{number}.md", "document_id": f"paper-{number}"}
        while True:
            answer = await split_mesh.http.post(url(collection), params=query, content=slow())
            if answer.status_code == 200:
                return
            assert (answer.status_code, reason(answer)) == (429, "QUEUE_FULL"), answer.text
            assert int(answer.headers["retry-after"]) >= 1
            refused += 1
            await asyncio.sleep(random.uniform(0.1, 0.5))

    async with asyncio.timeout(60):
        await asyncio.gather(*map(upload, range(6 * UPLOADS_MAX)))
    assert refused > 0
    assert len(await listed(split_mesh, collection)) == 6 * UPLOADS_MAX


async def test_200_mb_pass_without_being_held_in_memory(
    split_mesh: SplitMesh, collection: str
) -> None:
    parts = {name: psutil.Process(split_mesh.pid(name)) for name in ("bridge", "rest-1", "envoy")}
    line = " ".join(f"word{number}" for number in range(2_000)).encode() + b"\n"
    block, total, digest = line * (MIB // len(line)), 0, hashlib.sha256()
    warm = await split_mesh.http.post(url(collection), content=block, params={"media_type": ""})
    assert warm.status_code == 200, warm.text
    before = {name: process.memory_info().rss for name, process in parts.items()}
    most = dict.fromkeys(parts, 0)

    async def watch() -> None:
        while True:
            for name, process in parts.items():
                most[name] = max(most[name], process.memory_info().rss - before[name])
            await asyncio.sleep(0.02)

    async def large() -> AsyncIterator[bytes]:
        nonlocal total
        while total < 200 * 10**6:
            total += len(block)
            digest.update(block)
            yield block

    watching = asyncio.create_task(watch())
    answer = await split_mesh.http.post(
        url(collection), content=large(), params={"display_name": "large.txt"}
    )
    watching.cancel()
    assert answer.status_code == 200, answer.text
    document = answer.json()["document"]
    for sent in (warm, answer):  # to embed them would take minutes
        name = sent.json()["document"]["name"]
        assert (await split_mesh.http.delete(f"/v1/{name}")).status_code == 200
    assert int(document["sizeBytes"]) == total
    assert document["contentSha256"] == digest.hexdigest()
    assert max(most.values()) < 50 * MIB, json.dumps(most)
