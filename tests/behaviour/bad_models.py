"""Bad requests of the services that run models: embedding, generation and chat."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import budget_pb2, citation_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as generation
from ragmesh.api.retrieval.v1 import filter_pb2

from tests.behaviour.bad_requests import INF, NAN, Bad, Table, World, named, paged
from tests.behaviour.given import budget_of, session_of

DEFAULT = "embeddingModels/default"
JUDGE = "embeddingModels/judge"
ABSENT = "embeddingModels/absent"


def _embed(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> embedding.EmbedTextsRequest:
        return embedding.EmbedTextsRequest(**{"model": DEFAULT, "texts": ["a"], **fields})

    yield from named(lambda name: make(model=name), "embeddingModels/{}")
    yield Bad("model unknown", make(model=ABSENT), "EMBEDDING_MODEL_NOT_FOUND")
    yield Bad("no texts", make(texts=[]))
    yield Bad("1,025 texts", make(texts=["a"] * 1_025))
    yield Bad("a text of 1,000,001 characters", make(texts=["a" * 1_000_001]))
    yield Bad("more tokens than the model reads", make(texts=["word " * 2_000]), "TEXT_TOO_LONG")
    yield Bad("a cross-encoder's vectors", make(model=JUDGE), "MODEL_TASK_MISMATCH")
    yield Bad("dimensions below zero", make(dimensions=-1))
    yield Bad("dimensions over 4,096", make(dimensions=4_097))
    yield Bad("dimensions that the model cannot give", make(dimensions=1_000))
    yield Bad("input_kind unknown", make(input_kind=99))


def _rerank(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> embedding.RerankPassagesRequest:
        given = {"model": DEFAULT, "query": "What?", "passages": ["a", "b"]}
        return embedding.RerankPassagesRequest(**{**given, **fields})

    yield from named(lambda name: make(model=name), "embeddingModels/{}")
    yield Bad("model unknown", make(model=ABSENT), "EMBEDDING_MODEL_NOT_FOUND")
    yield Bad("query missing", make(query=""))
    yield Bad("a query of 1,000,001 characters", make(query="a" * 1_000_001, truncate=True))
    long = make(query="word " * 2_000)
    yield Bad("more tokens in the query than the model reads", long, "TEXT_TOO_LONG")
    asked = make(model=JUDGE, query="red " * 78)
    yield Bad("more than half of what a cross-encoder reads", asked, "TEXT_TOO_LONG")
    yield Bad("no passages", make(passages=[]))
    yield Bad("1,025 passages", make(passages=["a"] * 1_025))
    yield Bad("a passage of 1,000,001 characters", make(passages=["a", "a" * 1_000_001]))
    yield Bad("fewer prior scores than passages", make(prior_scores=[1.0]))
    yield Bad("more prior scores than passages", make(prior_scores=[1.0, 2.0, 3.0]))
    yield Bad("a prior score of NaN", make(prior_scores=[1.0, NAN]))
    yield Bad("a prior score of infinity", make(prior_scores=[1.0, -INF]))
    yield Bad("a prior score over a million", make(prior_scores=[1.0, 1e6 + 1]))


def _count(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> embedding.CountTokensRequest:
        return embedding.CountTokensRequest(**{"model": DEFAULT, "texts": ["a"], **fields})

    yield from named(lambda name: make(model=name), "embeddingModels/{}")
    yield Bad("model unknown", make(model=ABSENT), "EMBEDDING_MODEL_NOT_FOUND")
    yield Bad("no texts", make(texts=[]))
    yield Bad("a cross-encoder's tokens", make(model=JUDGE), "MODEL_TASK_MISMATCH")
    yield Bad("4,097 texts", make(texts=["a"] * 4_097))
    yield Bad("a text of 1,000,001 characters", make(texts=["a" * 1_000_001]))


def _model(kind: type[Any], area: str, reason: str, world: World) -> Iterator[Bad]:
    yield from named(lambda name: kind(name=name), area + "/{}")
    yield Bad("model unknown", kind(name=f"{area}/absent"), reason)


def _passage(world: World, **fields: Any) -> citation_pb2.SourcePassage:
    given = {"collection": world.vectors, "point_id": "p", "text": "Some text."}
    return citation_pb2.SourcePassage(**{**given, **fields})


def _wrong_passages(world: World) -> Iterator[tuple[str, list[citation_pb2.SourcePassage]]]:
    make = partial(_passage, world)
    span = vector_pb2.TextSpan
    yield "101 passages", [make(point_id=str(i)) for i in range(101)]
    yield "the same passage twice", [make(), make()]
    yield "a passage without a collection", [make(collection="")]
    yield "a passage without a point", [make(point_id="")]
    yield "a passage without a text", [make(text="")]
    yield "a passage of 100,001 characters", [make(text="x" * 100_001)]
    yield "a document of the wrong form", [make(document="bananas/1")]
    short = make(document=f"{world.texts}/documents/d", span=span(start=0, end=3))
    yield "a span that is not the text's", [short]
    beyond = vector_pb2.SentenceVector(span=span(start=0, end=99), int8_vector=b"1" * 384)
    yield "a sentence beyond the text", [make(sentences=[beyond])]
    backwards = vector_pb2.SentenceVector(span=span(start=5, end=2), int8_vector=b"1" * 384)
    yield "a sentence that ends before it starts", [make(sentences=[backwards])]
    bare = vector_pb2.SentenceVector(span=span(start=0, end=4))
    yield "a sentence without a vector", [make(sentences=[bare])]


def _generate(kind: type[Any], world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> Any:
        given = {"model": "generationModels/extractive", "question": "What?"}
        return kind(**{**given, **fields})

    yield from named(lambda name: make(model=name), "generationModels/{}")
    absent = make(model="generationModels/absent")
    yield Bad("model unknown", absent, "GENERATION_MODEL_NOT_FOUND")
    yield Bad("question missing", make(question=""))
    yield Bad("question too long", make(question="x" * 10_001))
    yield Bad("output_tokens_max below zero", make(output_tokens_max=-1))
    yield Bad("output_tokens_max over 32,768", make(output_tokens_max=32_769))
    yield Bad("temperature below zero", make(temperature=-0.1))
    yield Bad("temperature over 2", make(temperature=2.1))
    yield Bad("temperature of NaN", make(temperature=NAN))
    yield Bad("a session of the wrong form", make(session="bananas/1"))
    yield Bad("five stop sequences", make(stop_sequences=list("abcde")))
    yield Bad("an empty stop sequence", make(stop_sequences=[""]))
    choice = message_pb2.ToolChoice(mode=message_pb2.ToolChoice.MODE_REQUIRED)
    yield Bad("a tool required and none there", make(tool_choice=choice))
    yield from _wrong_chats(make)
    for what, passages in _wrong_passages(world):
        yield Bad(what, make(passages=passages))


def _wrong_chats(make: Any) -> Iterator[Bad]:
    """What is wrong with messages, tools and schemas."""
    role = message = message_pb2.ChatMessage
    said = message(role=role.ROLE_USER, text="What?")
    yield Bad("a question and messages", make(messages=[said]))
    alone = partial(make, question="")
    yield Bad("a message without a role", alone(messages=[message(text="What?")]))
    yield Bad("a message without a text", alone(messages=[message(role=role.ROLE_USER)]))
    answered = message(role=role.ROLE_ASSISTANT, text="That.")
    yield Bad("a chat that the model ended", alone(messages=[said, answered]))
    yield Bad("a chat without a user", alone(messages=[message(role=role.ROLE_SYSTEM, text="a")]))
    yield Bad("1,001 messages", alone(messages=[said] * 1_001))
    stray = message(role=role.ROLE_TOOL, text="9")
    yield Bad("a tool's message without its call", alone(messages=[said, stray]))
    call = message_pb2.ToolCall(id="1", name="sum", arguments="[1]")
    calling = message(role=role.ROLE_ASSISTANT, tool_calls=[call])
    yield Bad("a call with arguments that are no object", alone(messages=[said, calling, said]))
    tool = message_pb2.ToolDefinition
    yield Bad("a tool without a name", make(tools=[tool()]))
    yield Bad("a tool twice", make(tools=[tool(name="sum"), tool(name="sum")]))
    yield Bad(
        "a tool's schema that is no JSON", make(tools=[tool(name="a", parameters_schema="{")])
    )
    yield Bad("tools for the extractive model", make(tools=[tool(name="sum")]))
    yield Bad("a schema that is no JSON", make(output_schema="{"))
    yield Bad("a schema that is none", make(output_schema='{"type": 7}'))
    yield Bad("a schema with a pattern", make(output_schema='{"pattern": "(a+)+$"}'))
    yield Bad("a schema from elsewhere", make(output_schema='{"$ref": "https://a.example/b"}'))
    yield Bad("a schema too deep", make(output_schema='{"not": ' * 80 + "{}" + "}" * 80))


def _estimate(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> generation.EstimateCostRequest:
        given = {"model": "generationModels/extractive", "question": "What?"}
        return generation.EstimateCostRequest(**{**given, **fields})

    yield from named(lambda name: make(model=name), "generationModels/{}")
    absent = make(model="generationModels/absent")
    yield Bad("model unknown", absent, "GENERATION_MODEL_NOT_FOUND")
    yield Bad("question missing", make(question=""))
    yield Bad("output_tokens_max over 32,768", make(output_tokens_max=32_769))


def _set_budget(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> generation.SetBudgetRequest:
        given = {"name": "budgets/mine", "limit_tokens": 10}
        return generation.SetBudgetRequest(budget=budget_pb2.Budget(**{**given, **fields}))

    yield from named(lambda name: make(name=name), "budgets/{}")
    yield Bad("a session of the wrong form", make(session="bananas/1"))
    yield Bad("no limit", make(limit_tokens=0))
    yield Bad("a limit below zero", make(limit_nanos=-1))
    yield Bad("a limit over a billion", make(limit_nanos=10**18 + 1))
    yield Bad("a session that has a budget", make(session=session_of(world.vectors)))
    yield Bad("another session", make(name=budget_of(world.vectors), session="sessions/other"))


def _budget(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from named(lambda name: kind(name=name), "budgets/{}")
    yield Bad("budget unknown", kind(name="budgets/absent"), "BUDGET_NOT_FOUND")


def _ask(kind: type[Any], world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> Any:
        return kind(**{"question": "What?", "collections": [world.texts], **fields})

    yield Bad("question missing", make(question=""))
    yield Bad("question too long", make(question="x" * 10_001))
    yield Bad("no collections", make(collections=[]))
    yield Bad("17 collections", make(collections=[f"collections/c{i}" for i in range(17)]))
    yield Bad("a collection of the wrong form", make(collections=["bananas/1"]))
    yield Bad("an id with capitals", make(collections=["collections/UPPER"]))
    absent = make(collections=[world.texts, "collections/absent"])
    yield Bad("a collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("model of the wrong form", make(generation_model="extractive"))
    unknown = make(generation_model="generationModels/absent")
    yield Bad("model unknown", unknown, "GENERATION_MODEL_NOT_FOUND")
    yield Bad("passages_max below zero", make(passages_max=-1))
    yield Bad("passages_max over 100", make(passages_max=101))
    yield Bad("context_tokens_max below 50", make(context_tokens_max=49))
    yield Bad("context_tokens_max over 100,000", make(context_tokens_max=100_001))
    wrong = make(filter=filter_pb2.Filter())
    yield Bad("filter without a condition", wrong, "INVALID_FILTER")
    yield Bad("unsupported of no policy", make(unsupported=9))
    yield Bad("confidence_min over 1", make(confidence_min=1.5))
    yield Bad("confidence_min not a number", make(confidence_min=float("nan")))
    yield Bad("101 turns before", make(history=[chat.ChatTurn(question="What?")] * 101))
    yield Bad("a turn without a question", make(history=[chat.ChatTurn(answer="Yes.")]))
    yield Bad("a session of the wrong form", make(session="bananas/1"))
    both = make(session="sessions/a", history=[chat.ChatTurn(question="What?")])
    yield Bad("a session and turns", both)
    yield Bad("memory_subject too long", make(memory_subject="x" * 257))


TABLE: Table = {
    "EmbedTexts": _embed,
    "RerankPassages": _rerank,
    "CountTokens": _count,
    "ListEmbeddingModels": lambda world: paged(embedding.ListEmbeddingModelsRequest),
    "GetEmbeddingModel": partial(
        _model,
        embedding.GetEmbeddingModelRequest,
        "embeddingModels",
        "EMBEDDING_MODEL_NOT_FOUND",
    ),
    "GenerateText": partial(_generate, generation.GenerateTextRequest),
    "StreamGenerateText": partial(_generate, generation.StreamGenerateTextRequest),
    "ListGenerationModels": lambda world: paged(generation.ListGenerationModelsRequest),
    "GetGenerationModel": partial(
        _model,
        generation.GetGenerationModelRequest,
        "generationModels",
        "GENERATION_MODEL_NOT_FOUND",
    ),
    "EstimateCost": _estimate,
    "SetBudget": _set_budget,
    "GetBudget": partial(_budget, generation.GetBudgetRequest),
    "ListBudgets": lambda world: paged(generation.ListBudgetsRequest),
    "DeleteBudget": partial(_budget, generation.DeleteBudgetRequest),
    "AskQuestion": partial(_ask, chat.AskQuestionRequest),
    "StreamAnswer": partial(_ask, chat.StreamAnswerRequest),
}
