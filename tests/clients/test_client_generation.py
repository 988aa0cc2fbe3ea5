"""Chats, tools, costs and budgets as the clients say and read them."""

from __future__ import annotations

from datetime import UTC, datetime

import grpc
import pytest
import ragmesh
from ragmesh.api.generation.v1 import budget_pb2, citation_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import ScriptedServer, failing, streaming

CALL = ragmesh.ToolCall("call_1", "weather", '{"place": "Zürich"}')
CALLED = message_pb2.ToolCall(id=CALL.id, name=CALL.name, arguments=CALL.arguments)
ANSWER = pb.GenerateTextResponse(
    tool_calls=[CALLED],
    finish_reason=message_pb2.FINISH_REASON_TOOL_CALLS,
    model="generationModels/spare",
    usage=citation_pb2.Usage(
        input_tokens=7,
        output_tokens=5,
        cached_input_tokens=2,
        cost_nanos=17_000,
        currency="USD",
        price_version="v1",
        estimated=True,
    ),
)


async def test_a_chat_with_tools_is_sent_and_its_calls_are_read(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on("GenerateText", ANSWER)
    answer = await client.call(
        "generate_text",
        messages=[
            ragmesh.ChatMessage("user", "How is the weather?"),
            ragmesh.ChatMessage("assistant", "", (CALL,)),
            ragmesh.ChatMessage("tool", "rain", tool_call_id="call_1"),
        ],
        model="writer",
        tools=[ragmesh.ToolDefinition("weather", "The weather.", '{"type": "object"}')],
        required_tool="weather",
        output_schema="{}",
        stop_sequences=["END"],
        seed=0,
        of_session="mine",
    )
    assert answer.tool_calls == (CALL,)
    assert (answer.finish_reason, answer.model) == ("tool_calls", "generationModels/spare")
    assert answer.usage == ragmesh.Usage(7, 5, 2, 17_000, "USD", "v1", True)
    (request,) = script.requests("GenerateText")
    roles = message_pb2.ChatMessage
    assert [m.role for m in request.messages] == [
        roles.ROLE_USER,
        roles.ROLE_ASSISTANT,
        roles.ROLE_TOOL,
    ]
    assert list(request.messages[1].tool_calls) == [CALLED]
    assert request.tool_choice.mode == message_pb2.ToolChoice.MODE_REQUIRED
    assert request.tool_choice.tool == "weather"
    assert (request.session, list(request.stop_sequences)) == ("sessions/mine", ["END"])
    assert request.HasField("seed")


async def test_a_tool_call_is_an_event_of_its_own(
    client: EitherClient, script: ScriptedServer
) -> None:
    script.on(
        "StreamGenerateText",
        streaming(
            pb.StreamGenerateTextResponse(started=pb.GenerationStarted(model="generationModels/w")),
            pb.StreamGenerateTextResponse(tool_call=CALLED),
            pb.StreamGenerateTextResponse(finished=ANSWER),
        ),
    )
    events = await client.collect("stream_generate_text", "What?", model="w")
    assert events[1] == CALL
    assert isinstance(events[2], ragmesh.GeneratedText)


async def test_a_role_that_is_none_is_refused_before_anything_is_sent(
    client: EitherClient, script: ScriptedServer
) -> None:
    wrong = ragmesh.ChatMessage("robot", "Hello")  # type: ignore[arg-type]
    with pytest.raises(ragmesh.InvalidField, match="assistant, system, tool, user"):
        await client.call("generate_text", messages=[wrong])
    assert not script.seen


async def test_costs_are_estimated(client: EitherClient, script: ScriptedServer) -> None:
    script.on("EstimateCost", pb.EstimateCostResponse(input_tokens_high=9, cost_high_nanos=90))
    estimate = await client.call("estimate_cost", "What?", model="writer")
    assert (estimate.input_tokens_high, estimate.cost_high_nanos) == (9, 90)


async def test_budgets_are_set_read_and_deleted(
    client: EitherClient, script: ScriptedServer
) -> None:
    made = budget_pb2.Budget(name="budgets/all", session="sessions/mine", limit_tokens=10)
    made.create_time.FromDatetime(datetime(2026, 11, 22))
    script.on("SetBudget", pb.SetBudgetResponse(budget=made))
    script.on("GetBudget", pb.GetBudgetResponse(budget=made))
    script.on("ListBudgets", pb.ListBudgetsResponse(budgets=[made]))
    script.on("DeleteBudget", pb.DeleteBudgetResponse())
    budget = await client.call("set_budget", "all", limit_tokens=10, of_session="mine", reset=True)
    assert (budget.name, budget.session, budget.limit_tokens) == (
        "budgets/all",
        "sessions/mine",
        10,
    )
    assert budget.create_time == datetime(2026, 11, 22, tzinfo=UTC)
    assert budget.update_time is None
    (request,) = script.requests("SetBudget")
    assert request.reset and request.budget.session == "sessions/mine"
    assert await client.call("get_budget", "budgets/all") == budget
    assert await client.collect("list_budgets") == [budget]
    await client.call("delete_budget", "all")


async def test_an_answer_that_failed_is_not_paid_again_without_being_asked(
    client: EitherClient, script: ScriptedServer
) -> None:
    gone = failing(grpc.StatusCode.UNAVAILABLE, "broke off", reason="UPSTREAM_FAILED")
    script.on("GenerateText", gone)
    with pytest.raises(ragmesh.UpstreamFailed):
        await client.call("generate_text", "What?")
    assert len(script.seen["GenerateText"]) == 1
    script.on("StreamGenerateText", gone)
    with pytest.raises(ragmesh.UpstreamFailed):
        await client.collect("stream_generate_text", "What?")
    assert len(script.seen["StreamGenerateText"]) == 1


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        ("BUDGET_EXCEEDED", ragmesh.BudgetExceeded),
        ("PRICE_MISSING", ragmesh.PriceMissing),
        ("OUTPUT_INVALID", ragmesh.OutputInvalid),
    ],
)
async def test_what_another_try_would_only_pay_for_again_is_not_tried_again(
    client: EitherClient, script: ScriptedServer, reason: str, error: type[Exception]
) -> None:
    codes = {"BUDGET_EXCEEDED": grpc.StatusCode.RESOURCE_EXHAUSTED}
    code = codes.get(reason, grpc.StatusCode.FAILED_PRECONDITION)
    script.on("GenerateText", failing(code, "no", reason=reason))
    with pytest.raises(error):
        await client.call("generate_text", "What?")
    assert len(script.seen["GenerateText"]) == 1
