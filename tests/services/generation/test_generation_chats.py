"""What language models of either protocol are asked, and what comes of their answers: chats, tools,
schemas, stop sequences, seeds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ragmesh.api.generation.v1 import citation_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import InvalidField, OutputInvalid
from tests.services.generation.generation_mesh import KEY, passages
from tests.services.generation.model_node import ModelNode, model_node
from tests.services.generation.openai_endpoint import Asked
from tests.services.generation.protocols import PROTOCOLS, calling, prompt_text, whole

Message = message_pb2.ChatMessage
SYSTEM, USER = Message.ROLE_SYSTEM, Message.ROLE_USER
ASSISTANT, TOOL = Message.ROLE_ASSISTANT, Message.ROLE_TOOL
SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"year": {"type": "integer", "minimum": 1800}},
        "required": ["year"],
        "additionalProperties": False,
    }
)
WEATHER = message_pb2.ToolDefinition(
    name="weather",
    description="The weather of a place.",
    parameters_schema='{"type": "object", "properties": {"place": {"type": "string"}}}',
)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=PROTOCOLS)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[tuple[ModelNode, str]]:
    """`writer` of a protocol."""
    writer: dict[str, Any] = {"id": "writer"}
    if request.param == "openai":
        async with model_node(writer) as made:
            yield made, "openai"
    else:
        async with model_node(anthropic=(writer,)) as made:
            yield made, "anthropic"


def asked(mesh: ModelNode) -> Asked:
    """The one request that the endpoint got."""
    (found,) = mesh.endpoints["writer"].asked
    return found


async def test_a_chat_goes_to_the_model_as_it_is(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ["Rain", "."]))
    answer = await mesh.text(
        question="",
        messages=[
            Message(role=SYSTEM, text="Be brief."),
            Message(role=USER, text="Hello"),
            Message(role=ASSISTANT, text="Hello."),
            Message(role=USER, text="How is the weather?"),
        ],
    )
    assert (answer.text, answer.abstention_reason) == ("Rain.", 0)
    assert answer.finish_reason == message_pb2.FINISH_REASON_STOP
    body = asked(mesh).body
    turns = [("user", "Hello"), ("assistant", "Hello."), ("user", "How is the weather?")]
    if protocol == "openai":
        found = [(m["role"], m["content"]) for m in body["messages"]]
        assert found == [("system", "Be brief."), *turns]
    else:
        assert body["system"] == "Be brief."
        found = [(m["role"], m["content"][0]["text"]) for m in body["messages"]]
        assert found == turns


async def test_each_protocol_has_its_path_and_its_key(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ["Rain."]))
    await mesh.text()
    request = asked(mesh)
    if protocol == "openai":
        assert request.path == "/v1/chat/completions"
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.body["stream_options"] == {"include_usage": True}
    else:
        assert request.path == "/v1/messages"
        assert request.headers["x-api-key"] == KEY
        assert request.headers["anthropic-version"] == "2023-06-01"
        assert "authorization" not in request.headers
    assert request.body["stream"] is True
    assert request.body["max_tokens"] == 4_096


async def test_wishes_reach_the_endpoint(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ["Rain."]))
    await mesh.text(temperature=1.5, stop_sequences=["\n\n", "END"], seed=7, output_tokens_max=99)
    body = asked(mesh).body
    assert body["max_tokens"] == 99
    if protocol == "openai":
        assert (body["temperature"], body["stop"], body["seed"]) == (1.5, ["\n\n", "END"], 7)
    else:
        assert (body["temperature"], body["stop_sequences"]) == (1.0, ["\n\n", "END"])
        assert "seed" not in body


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_by_the_caller_who_sends_back_what_it_said(
    node: tuple[ModelNode, str], stream: bool
) -> None:
    mesh, protocol = node
    arguments = '{"place": "Z\\u00fcrich"}'
    mesh.endpoints["writer"].will(calling(protocol, "weather", arguments))
    chat = [Message(role=USER, text="How is the weather?")]
    wishes: dict[str, Any] = {
        "question": "",
        "tools": [WEATHER],
        "tool_choice": message_pb2.ToolChoice(
            mode=message_pb2.ToolChoice.MODE_REQUIRED, tool="weather"
        ),
    }
    if stream:
        events = await mesh.events(messages=chat, **wishes)
        answer = events[-1].finished
        assert [e.tool_call for e in events if e.HasField("tool_call")] == list(answer.tool_calls)
    else:
        answer = await mesh.text(messages=chat, **wishes)
    (call,) = answer.tool_calls
    assert (call.id, call.name, call.arguments) == ("call_1", "weather", arguments)
    assert answer.finish_reason == message_pb2.FINISH_REASON_TOOL_CALLS
    assert answer.usage.output_tokens == 9
    body = asked(mesh).body
    if protocol == "openai":
        assert body["tools"][0]["function"]["name"] == "weather"
        assert body["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    else:
        assert body["tools"][0]["input_schema"]["properties"]["place"] == {"type": "string"}
        assert body["tool_choice"] == {"type": "tool", "name": "weather"}

    mesh.endpoints["writer"].will(whole(protocol, ["It rains."]))
    said = Message(role=TOOL, text='{"rain": true}', tool_call_id=call.id)
    chat += [Message(role=ASSISTANT, tool_calls=[call]), said]
    assert (await mesh.text(question="", messages=chat, tools=[WEATHER])).text == "It rains."
    sent = asked(mesh).body["messages"]
    if protocol == "openai":
        assert sent[1]["tool_calls"][0]["function"]["arguments"] == arguments
        assert (sent[2]["role"], sent[2]["tool_call_id"]) == ("tool", "call_1")
    else:
        assert sent[1]["content"][0]["input"] == {"place": "Zürich"}
        assert sent[2]["content"][0]["tool_use_id"] == "call_1"


async def test_json_that_fits_comes_as_it_was_written(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ['{"ye', 'ar": 1847}']))
    answer = await mesh.text(output_schema=SCHEMA)
    assert answer.text == '{"year": 1847}'
    body = asked(mesh).body
    if protocol == "openai":
        assert body["response_format"]["json_schema"]["schema"] == json.loads(SCHEMA)
    else:
        assert "minimum" in prompt_text(body)


async def test_a_code_fence_around_it_is_taken_off(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ['```json\n{"year": 1847}\n```']))
    assert (await mesh.text(output_schema=SCHEMA)).text == '{"year": 1847}'


@pytest.mark.parametrize("wrong", ["In 1847.", '{"year": 1700}', '{"years": 1}', "", "[" * 9_999])
async def test_json_that_does_not_fit_is_repaired_once_and_only_then_shown(
    node: tuple[ModelNode, str], wrong: str
) -> None:
    mesh, protocol = node
    endpoint = mesh.endpoints["writer"]
    endpoint.will(whole(protocol, [wrong], 30), whole(protocol, ['{"year": 1847}'], 12))
    events = await mesh.events(output_schema=SCHEMA)
    assert "".join(e.delta.text for e in events) == '{"year": 1847}'
    finished = events[-1].finished
    assert finished.text == '{"year": 1847}'
    assert (finished.usage.input_tokens, finished.usage.output_tokens) == (14, 42)
    again = prompt_text(endpoint.asked[1].body)
    assert "does not fit the JSON Schema" in again


async def test_json_that_never_fits_is_an_error_that_says_why(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ['{"year": 1700}']))
    with pytest.raises(OutputInvalid, match=r"1700 is less than the minimum of 1800"):
        await mesh.text(output_schema=SCHEMA)
    assert len(mesh.endpoints["writer"].asked) == 2


async def test_a_schema_that_would_take_for_ever_ends(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    parts: dict[str, Any] = {"d0": {"type": "integer"}}
    for i in range(1, 30):
        parts[f"d{i}"] = {"allOf": [{"$ref": f"#/$defs/d{i - 1}"}] * 2}
    endless = json.dumps({"$defs": parts, "$ref": "#/$defs/d29"})
    mesh.endpoints["writer"].will(whole(protocol, ["1847"]))
    with pytest.raises(OutputInvalid, match="too long to check"):
        await mesh.text(output_schema=endless)


async def test_passages_and_a_chat_go_together(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ["The railway reached the town in 1847 [2]."]))
    answer = await mesh.text(
        question="",
        passages=passages(),
        messages=[
            Message(role=USER, text="Hello"),
            Message(role=ASSISTANT, text="Hello."),
            Message(role=USER, text="When did it come?"),
        ],
    )
    (citation,) = answer.citations
    assert "1847" in citation.quote
    assert prompt_text(asked(mesh).body).index("1847") > prompt_text(asked(mesh).body).index(
        "Hello."
    )


async def test_passages_and_a_schema_give_json_without_citations(
    node: tuple[ModelNode, str],
) -> None:
    mesh, protocol = node
    mesh.endpoints["writer"].will(whole(protocol, ['{"year": 1847}']))
    answer = await mesh.text(passages=passages(), output_schema=SCHEMA)
    assert answer.text == '{"year": 1847}'
    assert answer.abstention_reason == citation_pb2.ABSTENTION_REASON_UNSPECIFIED


async def test_an_answer_that_met_its_limit_or_was_withheld_says_so(
    node: tuple[ModelNode, str],
) -> None:
    mesh, protocol = node
    names = {"openai": ("length", "content_filter"), "anthropic": ("max_tokens", "refusal")}
    wanted = (message_pb2.FINISH_REASON_LENGTH, message_pb2.FINISH_REASON_FILTERED)
    for finish, reason in zip(names[protocol], wanted, strict=True):
        mesh.endpoints["writer"].will(whole(protocol, ["Rain"], finish=finish))
        assert (await mesh.text()).finish_reason == reason


async def test_the_model_says_what_it_is(node: tuple[ModelNode, str]) -> None:
    mesh, protocol = node
    request = pb.GetGenerationModelRequest(name="generationModels/writer")
    model = (await mesh.ask("GetGenerationModel", request)).generation_model
    wanted = {
        "openai": pb.GenerationModel.BACKEND_OPENAI,
        "anthropic": pb.GenerationModel.BACKEND_ANTHROPIC,
    }
    assert model.backend == wanted[protocol]
    assert KEY not in str(model)


@pytest.mark.parametrize(
    ("settings", "field", "place"),
    [
        ({"structured_output": "json_object"}, "response_format", True),
        ({"structured_output": "prompt"}, "response_format", False),
        ({"output_tokens_field": "max_completion_tokens"}, "max_completion_tokens", True),
    ],
)
async def test_endpoints_that_know_less_are_asked_in_their_way(
    settings: dict[str, Any], field: str, place: bool
) -> None:
    async with model_node({"id": "writer", **settings}) as mesh:
        mesh.endpoints["writer"].will(whole("openai", ['{"year": 1847}']))
        await mesh.text(output_schema=SCHEMA)
        body = asked(mesh).body
        assert (field in body) is place
        if "structured_output" in settings:
            assert "minimum" in prompt_text(body)


@pytest.mark.parametrize(
    "wish", [{"tools": [WEATHER]}, {"output_schema": SCHEMA}, {"output_schema": '{"type": 7}'}]
)
async def test_the_extractive_model_refuses_what_it_cannot_do(wish: dict[str, Any]) -> None:
    async with model_node() as mesh:
        with pytest.raises(InvalidField) as caught:
            await mesh.text(model="generationModels/extractive", **wish)
        assert caught.value.field in wish


@pytest.mark.parametrize("fallback", ["writer", "nobody", "extractive"])
async def test_a_fallback_that_is_none_does_not_start(fallback: str) -> None:
    with pytest.raises(InvalidField, match="fallback"):
        async with model_node({"id": "writer", "fallbacks": (fallback,)}):
            pass
