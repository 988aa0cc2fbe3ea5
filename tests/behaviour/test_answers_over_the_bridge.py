"""Answers beyond what a transcoder says: events with ids, a socket, and OpenAI's own client, all
through the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as retrieval
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.behaviour.given import Given
from tests.behaviour.rungs import Rung
from tests.behaviour.stack import SplitMesh

FACTS = (
    "The lighthouse of Norderhaven was built in 1871. It is thirty meters high. "
    "Its keeper was Anna Brandt. The harbor freezes in hard winters."
)
QUESTION = "When was the lighthouse of Norderhaven built?"


@pytest.fixture(scope="module")
async def facts(split_rungs: dict[str, Rung]) -> str:
    """A collection that knows of the lighthouse."""
    given = Given(split_rungs["rest"])
    collection = await given.text_collection()
    _, watermark = await given.ingested(collection, FACTS, "lighthouse.txt")
    search = retrieval.SearchCollectionRequest(
        collection=collection, text="lighthouse", min_watermark=watermark
    )
    for _ in range(8):  # each node in its turn: all of them have come so far then
        await split_rungs["split"].call("SearchCollection", search)
    return collection


@pytest.fixture
async def answered(split_rungs: dict[str, Rung], facts: str) -> list[chat.StreamAnswerResponse]:
    """The events of an answer that is over."""
    request = chat.StreamAnswerRequest(question=QUESTION, collections=[facts])
    return [event async for event in split_rungs["rest"].stream("StreamAnswer", request)]


@pytest.fixture
async def socket(split_mesh: SplitMesh) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{split_mesh.gateway.listen_address}/v1/chat:connect") as made:
        yield made


async def says(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def hears(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(60):
        found: dict[str, Any] = json.loads(await socket.recv())
        return found


def read(text: str) -> list[tuple[int, str, dict[str, Any]]]:
    """Id, kind and data of server-sent events."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        if "data" in fields:
            found.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return found


async def test_events_have_ids_and_go_on_after_the_last_one(
    split_mesh: SplitMesh, answered: list[chat.StreamAnswerResponse]
) -> None:
    path = f"/v1/{answered[0].started.answer}:events"
    whole = await split_mesh.http.get(path)
    assert whole.headers["content-type"].startswith("text/event-stream")
    events = read(whole.text)
    assert [one[0] for one in events] == [event.event_id for event in answered]
    assert [one[1] for one in events] == [event.WhichOneof("event") for event in answered]
    assert "1871" in events[-1][2]["finished"]["text"]
    rest = await split_mesh.http.get(path, headers={"last-event-id": "2"})
    assert read(rest.text) == events[2:]
    assert read((await split_mesh.http.get(f"{path}?after=2")).text) == events[2:]
    over = await split_mesh.http.get(path, headers={"last-event-id": str(len(answered))})
    assert (over.status_code, over.content) == (204, b"")


@pytest.mark.parametrize("given", ["-1", "x", "1e3", "99999999999", "1000", "²"])
async def test_a_wrong_last_event_id_is_refused(
    split_mesh: SplitMesh, answered: list[chat.StreamAnswerResponse], given: str
) -> None:
    path = f"/v1/{answered[0].started.answer}:events"
    refused = await split_mesh.http.get(path, headers={b"last-event-id": given.encode()})
    assert refused.status_code == 400
    assert refused.json()["details"][0]["reason"] == "INVALID_FIELD"


async def test_events_of_no_answer_are_not_found(
    split_mesh: SplitMesh, answered: list[chat.StreamAnswerResponse]
) -> None:
    assert (await split_mesh.http.get("/v1/answers/absent:events")).status_code == 404
    path = f"/v1/{answered[0].started.answer}:events"
    stranger = await split_mesh.http.get(path, headers={"x-ragmesh-tenant": "stranger"})
    assert stranger.json()["details"][0]["reason"] == "ANSWER_NOT_FOUND"


async def test_a_socket_asks_follows_and_cancels(socket: ClientConnection, facts: str) -> None:
    question = {"question": QUESTION, "collections": [facts]}
    await says(socket, type="ask", ref="1", request=question)
    first = await hears(socket)
    assert (first["type"], first["ref"], first["event"]["eventId"]) == ("event", "1", 1)
    name = first["event"]["started"]["answer"]
    events = [first]
    while (heard := await hears(socket))["type"] != "done":
        events.append(heard)
    assert [one["event"]["eventId"] for one in events] == list(range(1, len(events) + 1))
    assert "1871" in events[-1]["event"]["finished"]["text"]
    await says(socket, type="follow", ref="2", answer=name, afterEventId=2)
    again = []
    while (heard := await hears(socket))["type"] != "done":
        again.append(heard["event"])
    assert again == [one["event"] for one in events[2:]]
    await says(socket, type="cancel", ref="3", answer=name)
    late = await hears(socket)
    assert late["status"]["details"][0]["reason"] == "ANSWER_FINISHED"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("{", "MALFORMED_MESSAGE"),
        ("[]", "MALFORMED_MESSAGE"),
        ('{"type": "ask"}', "INVALID_FIELD"),
        ('{"type": "sing", "ref": "1"}', "INVALID_FIELD"),
        ('{"type": "ask", "ref": "1"}', "INVALID_FIELD"),
        ('{"type": "ask", "ref": "1", "request": {"nonsense": 1}}', "INVALID_FIELD"),
        ('{"type": "ask", "ref": "1", "request": {"question": ""}}', "INVALID_FIELD"),
        ('{"type": "follow", "ref": "1", "answer": "answers/absent"}', "ANSWER_NOT_FOUND"),
        ('{"type": "follow", "ref": "1", "answer": "a", "afterEventId": -1}', "INVALID_FIELD"),
        ('{"type": "stop", "ref": "none"}', "INVALID_FIELD"),
        ('{"type": "cancel", "ref": "1", "answer": "answers/absent"}', "ANSWER_NOT_FOUND"),
    ],
)
async def test_a_socket_says_what_is_wrong_and_goes_on(
    socket: ClientConnection, message: str, reason: str
) -> None:
    await socket.send(message)
    heard = await hears(socket)
    assert heard["type"] == "error"
    assert heard["status"]["details"][0]["reason"] == reason
    await says(socket, type="stop", ref="none")
    assert (await hears(socket))["type"] == "error"


async def test_a_socket_bounds_what_goes_on_and_what_is_said(
    socket: ClientConnection, facts: str
) -> None:
    question = {"question": QUESTION, "collections": [facts]}
    for ref in range(40):
        await says(socket, type="ask", ref=str(ref), request=question)
    over: set[str] = set()
    reasons = set()
    while len(over) < 40:
        heard = await hears(socket)
        if heard["type"] in ("done", "error"):
            over.add(heard["ref"])
        if heard["type"] == "error":
            reasons.add(heard["status"]["details"][0]["reason"])
    assert reasons <= {"LIMIT_REACHED"}
    with pytest.raises(Exception, match="1009"):
        await socket.send("x" * (2 << 20))
        await hears(socket)


async def test_nothing_else_is_upgraded(split_mesh: SplitMesh) -> None:
    for path in ("/v1/collections", "/v1/openai/models", "/healthz"):
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{split_mesh.gateway.listen_address}{path}").__aenter__()


@pytest.fixture
async def client(split_mesh: SplitMesh) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's own client, with another URL."""
    async with openai.AsyncOpenAI(
        base_url=f"{split_mesh.url}/v1/openai", api_key="none", max_retries=0
    ) as made:
        yield made


async def test_openais_client_gets_an_answer_with_citations(
    client: openai.AsyncOpenAI, facts: str
) -> None:
    messages: Any = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hello!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": QUESTION},
    ]
    for model, extra in (
        (facts, {}),
        ("extractive", {"collections": [facts]}),
        ("generationModels/extractive", {"collections": facts.partition("/")[2]}),
        ("default", {"collections": [facts], "passages_max": 5}),
    ):
        done = await client.chat.completions.create(
            model=model, messages=messages, extra_body=extra
        )
        assert "1871" in (done.choices[0].message.content or "")
        assert done.choices[0].finish_reason == "stop"
        assert done.model == model
        told: Any = done.model_extra or {}
        assert told["ragmesh"]["citations"][0]["quote"] in FACTS
        assert told["ragmesh"]["answer"].startswith("answers/")


async def test_openais_client_streams_an_answer(client: openai.AsyncOpenAI, facts: str) -> None:
    stream = await client.chat.completions.create(
        model=facts,
        messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION}]}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "1871" in text
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason == "stop"
    told: Any = chunks[-2].model_extra or {}
    assert told["ragmesh"]["citations"]
    assert chunks[-1].usage is not None


async def test_openais_client_embeds_and_lists_models(client: openai.AsyncOpenAI) -> None:
    two = await client.embeddings.create(model="default", input=["red", "blue"])
    numbers = await client.embeddings.create(
        model="embeddingModels/default", input="red", encoding_format="float"
    )
    assert len(two.data) == 2
    assert two.data[0].embedding == pytest.approx(numbers.data[0].embedding, abs=1e-3)
    assert two.usage.prompt_tokens > 0
    names = [model.id async for model in client.models.list()]
    assert {"extractive", "exact"} <= set(names)
    assert (await client.models.retrieve("extractive")).id == "extractive"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("absent")


async def test_openais_client_gets_its_own_errors(client: openai.AsyncOpenAI, facts: str) -> None:
    message: Any = [{"role": "user", "content": QUESTION}]
    create = client.chat.completions.create
    with pytest.raises(openai.NotFoundError) as absent:
        await create(model="collections/absent", messages=message)
    assert absent.value.code == "collection_not_found"
    with pytest.raises(openai.NotFoundError):
        await create(model="collections/absent", messages=message, stream=True)
    with pytest.raises(openai.NotFoundError) as model:
        await create(model="absent", messages=message, extra_body={"collections": [facts]})
    assert model.value.code == "generation_model_not_found"
    tool: Any = [{"type": "function", "function": {"name": "f"}}]
    wrong: list[dict[str, Any]] = [
        {"model": "extractive", "messages": message},
        {"model": facts, "messages": []},
        {"model": facts, "messages": message, "n": 2},
        {"model": facts, "messages": message, "tools": tool},
        {"model": facts, "messages": [{"role": "user", "content": "x" * 10_001}]},
        {"model": "", "messages": message},
    ]
    for asked in wrong:
        with pytest.raises(openai.BadRequestError) as refused:
            await create(**asked)
        assert refused.value.code == "invalid_field"
        assert refused.value.param
    tokens: Any = [[1, 2, 3]]
    with pytest.raises(openai.BadRequestError):
        await client.embeddings.create(model="default", input=tokens)


async def test_a_body_that_is_no_json_is_refused_in_openais_shape(split_mesh: SplitMesh) -> None:
    for body in (b"{", b"[1]", b"\xff", b"[" * 100_000):
        answer = await split_mesh.http.post("/v1/openai/chat/completions", content=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "malformed_message"
