"""Calls of the generation service."""

from __future__ import annotations

from collections.abc import Iterable

from ragmesh import _rpcs as rpcs
from ragmesh import _status
from ragmesh._calls.answers import STREAM_TIMEOUT_S
from ragmesh._convert import answers as convert
from ragmesh._names import optional, resource
from ragmesh._plan import Pages, Plan, Source, paged, send
from ragmesh._session import Lane, Session
from ragmesh._types import answers as types
from ragmesh.api.generation.v1 import budget_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

# The model that needs nothing else: it quotes sentences of the passages.
EXTRACTIVE_MODEL = "extractive"


def generate_text(
    session: Session,
    question: str = "",
    passages: Iterable[types.SourcePassage] = (),
    *,
    messages: Iterable[types.ChatMessage] = (),
    model: str = EXTRACTIVE_MODEL,
    output_tokens_max: int = 0,
    temperature: float | None = None,
    tools: Iterable[types.ToolDefinition] = (),
    tool_choice: types.ToolMode | None = None,
    required_tool: str = "",
    output_schema: str = "",
    stop_sequences: Iterable[str] = (),
    seed: int | None = None,
    of_session: str = "",
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.GeneratedText]:
    """Writes an answer to `question`, or to a chat of `messages`, from passages (at most 100, the
    best first).

    `output_tokens_max` 0 and `temperature` None are the model's own. Language models also take
    `tools` (which you call; `required_tool` names one that has to be), `output_schema` (a JSON
    Schema, as JSON, that the text fits), `stop_sequences` and `seed`. The budget of `of_session`
    counts beside the tenant's. Raises GenerationModelNotFound, BudgetExceeded, OutputInvalid,
    QueueFull or UpstreamFailed.
    """
    request = pb.GenerateTextRequest(
        model=resource("generationModels", model, "model"),
        question=question,
        passages=[convert.to_source(passage) for passage in passages],
        messages=[convert.to_message(message) for message in messages],
        output_tokens_max=output_tokens_max,
        temperature=temperature,
        tools=[convert.to_tool(tool) for tool in tools],
        tool_choice=convert.to_tool_choice(tool_choice, required_tool),
        output_schema=output_schema,
        stop_sequences=stop_sequences,
        seed=seed,
        session=optional("sessions", of_session, "of_session"),
    )
    response = yield from send(session, rpcs.GENERATE_TEXT, request, timeout_s=timeout_s, lane=lane)
    return convert.generated(response)


def stream_generate_text(
    session: Session,
    question: str = "",
    passages: Iterable[types.SourcePassage] = (),
    *,
    messages: Iterable[types.ChatMessage] = (),
    model: str = EXTRACTIVE_MODEL,
    output_tokens_max: int = 0,
    temperature: float | None = None,
    tools: Iterable[types.ToolDefinition] = (),
    tool_choice: types.ToolMode | None = None,
    required_tool: str = "",
    output_schema: str = "",
    stop_sequences: Iterable[str] = (),
    seed: int | None = None,
    of_session: str = "",
    timeout_s: float | None = STREAM_TIMEOUT_S,
    lane: Lane | None = None,
) -> Source[types.GenerationEvent]:
    """The same as events while it is written; the last one is the whole GeneratedText.

    Raises StreamCut if it ends without it.
    """
    request = pb.StreamGenerateTextRequest(
        model=resource("generationModels", model, "model"),
        question=question,
        passages=[convert.to_source(passage) for passage in passages],
        messages=[convert.to_message(message) for message in messages],
        output_tokens_max=output_tokens_max,
        temperature=temperature,
        tools=[convert.to_tool(tool) for tool in tools],
        tool_choice=convert.to_tool_choice(tool_choice, required_tool),
        output_schema=output_schema,
        stop_sequences=stop_sequences,
        seed=seed,
        session=optional("sessions", of_session, "of_session"),
    )
    return Source(
        session,
        rpcs.STREAM_GENERATE_TEXT,
        request,
        read=_generation_event,
        is_last=lambda event: isinstance(event, types.GeneratedText),
        timeout_s=timeout_s,
        lane=lane,
    )


def estimate_cost(
    session: Session,
    question: str = "",
    passages: Iterable[types.SourcePassage] = (),
    *,
    messages: Iterable[types.ChatMessage] = (),
    model: str = EXTRACTIVE_MODEL,
    output_tokens_max: int = 0,
    tools: Iterable[types.ToolDefinition] = (),
    output_schema: str = "",
    timeout_s: float | None = None,
) -> Plan[types.CostEstimate]:
    """Says between which bounds the cost of an answer will lie; asks no endpoint.

    Raises GenerationModelNotFound.
    """
    request = pb.EstimateCostRequest(
        model=resource("generationModels", model, "model"),
        question=question,
        passages=[convert.to_source(passage) for passage in passages],
        messages=[convert.to_message(message) for message in messages],
        output_tokens_max=output_tokens_max,
        tools=[convert.to_tool(tool) for tool in tools],
        output_schema=output_schema,
    )
    response = yield from send(session, rpcs.ESTIMATE_COST, request, timeout_s=timeout_s)
    return convert.estimate(response)


def list_generation_models(
    session: Session, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.GenerationModel]:
    """Lists the generation models that are configured, by name."""
    return paged(
        session,
        rpcs.LIST_GENERATION_MODELS,
        pb.ListGenerationModelsRequest(page_size=page_size),
        lambda response: map(convert.model, response.generation_models),
        timeout_s=timeout_s,
    )


def get_generation_model(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.GenerationModel]:
    """Returns one generation model; raises GenerationModelNotFound."""
    request = pb.GetGenerationModelRequest(name=resource("generationModels", name, "name"))
    response = yield from send(session, rpcs.GET_GENERATION_MODEL, request, timeout_s=timeout_s)
    return convert.model(response.generation_model)


def set_budget(
    session: Session,
    name: str,
    *,
    limit_nanos: int = 0,
    limit_tokens: int = 0,
    of_session: str = "",
    reset: bool = False,
    timeout_s: float | None = None,
) -> Plan[types.Budget]:
    """Makes a budget of the tenant, or of one session, or gives it other limits (0 for none).

    Money is in billionths of the price file's currency. `reset` sets what was spent to 0. Raises
    InvalidField where the session has another budget.
    """
    budget = budget_pb2.Budget(
        name=resource("budgets", name, "name"),
        session=optional("sessions", of_session, "of_session"),
        limit_nanos=limit_nanos,
        limit_tokens=limit_tokens,
    )
    request = pb.SetBudgetRequest(budget=budget, reset=reset)
    response = yield from send(session, rpcs.SET_BUDGET, request, timeout_s=timeout_s)
    return convert.budget(response.budget)


def get_budget(
    session: Session, name: str, *, timeout_s: float | None = None
) -> Plan[types.Budget]:
    """Returns one budget; raises BudgetNotFound."""
    request = pb.GetBudgetRequest(name=resource("budgets", name, "name"))
    response = yield from send(session, rpcs.GET_BUDGET, request, timeout_s=timeout_s)
    return convert.budget(response.budget)


def list_budgets(
    session: Session, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[types.Budget]:
    """Lists the tenant's budgets, by name."""
    return paged(
        session,
        rpcs.LIST_BUDGETS,
        pb.ListBudgetsRequest(page_size=page_size),
        lambda response: map(convert.budget, response.budgets),
        timeout_s=timeout_s,
    )


def delete_budget(session: Session, name: str, *, timeout_s: float | None = None) -> Plan[None]:
    """Takes a budget away, so that it bounds nothing; raises BudgetNotFound."""
    request = pb.DeleteBudgetRequest(name=resource("budgets", name, "name"))
    yield from send(session, rpcs.DELETE_BUDGET, request, timeout_s=timeout_s)


def _generation_event(message: pb.StreamGenerateTextResponse) -> types.GenerationEvent | None:
    match message.WhichOneof("event"):
        case "started":
            return types.GenerationStarted(message.started.model)
        case "delta":
            return types.TextDelta(message.delta.text)
        case "citation":
            return convert.citation(message.citation)
        case "tool_call":
            return convert.tool_call(message.tool_call)
        case "finished":
            return convert.generated(message.finished)
        case "failed":
            raise _status.from_status(message.failed)
        case _:  # an event of a newer server
            return None
