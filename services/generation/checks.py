"""What makes a request of the generation service wrong whatever the state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.generation.v1 import citation_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import InvalidField
from services.generation.chat_checks import messages, output_schema, stop_sequences, tools
from services.rpc import fields, names, paging
from services.rpc.chain import Check

QUESTION_CHARACTERS_MAX = 10_000
PASSAGES_MAX = 100
PASSAGE_CHARACTERS_MAX = 100_000
POINT_ID_CHARACTERS_MAX = 256
SENTENCES_MAX = 10_000
DIMENSIONS_MAX = 4_096
OUTPUT_TOKENS_MAX = 32_768
TEMPERATURE_MAX = 2.0
LIMIT_MAX = 10**18
"""Of a budget: a billion of the currency."""

_Asking = pb.GenerateTextRequest | pb.StreamGenerateTextRequest | pb.EstimateCostRequest


def _span(span: vector_pb2.TextSpan, field: str) -> None:
    if not 0 <= span.start <= span.end:
        raise InvalidField(
            f"{field} is [{span.start:,}, {span.end:,}), but starts at 0 or later and does not "
            "end before it starts.",
            field=field,
            metadata={"field": field, "start": span.start, "end": span.end},
        )


def _sentences(sentences: Sequence[vector_pb2.SentenceVector], text: str, field: str) -> None:
    fields.items(sentences, field, SENTENCES_MAX, 0)
    dimensions = len(sentences[0].int8_vector) if sentences else 1
    fields.number(dimensions, f"{field}[0].int8_vector", 1, DIMENSIONS_MAX)
    for index, sentence in enumerate(sentences):
        at = f"{field}[{index}]"
        _span(sentence.span, f"{at}.span")
        if sentence.span.end > len(text):
            raise InvalidField(
                f"{at}.span ends at {sentence.span.end:,}, but the text has {len(text):,} "
                "characters.",
                field=f"{at}.span",
                metadata={"end": sentence.span.end, "characters": len(text)},
            )
        if len(sentence.int8_vector) != dimensions:
            raise InvalidField(
                f"{at}.int8_vector has {len(sentence.int8_vector):,} bytes, but the first "
                f"sentence's has {dimensions:,}.",
                field=f"{at}.int8_vector",
                metadata={"bytes": len(sentence.int8_vector), "dimensions": dimensions},
            )


def _passage(passage: citation_pb2.SourcePassage, field: str) -> None:
    names.parse(passage.collection, "collections/*", f"{field}.collection")
    fields.characters(passage.point_id, f"{field}.point_id", POINT_ID_CHARACTERS_MAX, 1)
    fields.characters(passage.text, f"{field}.text", PASSAGE_CHARACTERS_MAX, 1)
    fields.number(passage.passage_index, f"{field}.passage_index", 0, 2**31 - 1)
    _sentences(passage.sentences, passage.text, f"{field}.sentences")
    if not passage.document:
        return
    names.parse(passage.document, "collections/*/documents/*", f"{field}.document")
    _span(passage.span, f"{field}.span")
    length = passage.span.end - passage.span.start
    if length != len(passage.text):
        # A citation points into the document by this span; another length cannot be its place.
        raise InvalidField(
            f"{field}.span has {length:,} characters, but the text has {len(passage.text):,}. "
            "Pass the characters that stand there.",
            field=f"{field}.span",
            metadata={"span_characters": length, "characters": len(passage.text)},
        )


def _task(request: _Asking) -> None:
    names.parse(request.model, "generationModels/*", "model")
    messages(request.messages, "messages")
    if request.messages and request.question:
        raise InvalidField(
            "question and messages are two ways to ask. Leave one of them out.", field="question"
        )
    if not request.messages:
        fields.characters(request.question, "question", QUESTION_CHARACTERS_MAX, 1)
    fields.items(request.passages, "passages", PASSAGES_MAX, 0)
    seen: set[tuple[str, str]] = set()
    for index, passage in enumerate(request.passages):
        _passage(passage, f"passages[{index}]")
        key = (passage.collection, passage.point_id)
        if key in seen:
            # A citation names its passage by these two.
            raise InvalidField(
                f"passages[{index}] has the collection and point_id of a passage before it. "
                "Pass each point once.",
                field=f"passages[{index}].point_id",
            )
        seen.add(key)
    fields.number(request.output_tokens_max, "output_tokens_max", 0, OUTPUT_TOKENS_MAX)
    tools(request.tools, None)
    output_schema(request.output_schema)


def _generate(request: pb.GenerateTextRequest | pb.StreamGenerateTextRequest) -> None:
    _task(request)
    if request.HasField("temperature"):
        fields.number(request.temperature, "temperature", 0, TEMPERATURE_MAX)
    if request.HasField("confidence_min"):
        fields.number(request.confidence_min, "confidence_min", 0, 1)
    if request.HasField("tool_choice"):
        tools(request.tools, request.tool_choice)
    stop_sequences(request.stop_sequences)
    if request.session:
        names.parse(request.session, "sessions/*", "session")


def _list(request: pb.ListGenerationModelsRequest) -> None:
    paging.page_size(request.page_size)


def _get(request: pb.GetGenerationModelRequest) -> None:
    names.parse(request.name, "generationModels/*", "name")


def _set_budget(request: pb.SetBudgetRequest) -> None:
    budget = request.budget
    names.parse(budget.name, "budgets/*", "budget.name")
    if budget.session:
        names.parse(budget.session, "sessions/*", "budget.session")
    fields.number(budget.limit_nanos, "budget.limit_nanos", 0, LIMIT_MAX)
    fields.number(budget.limit_tokens, "budget.limit_tokens", 0, LIMIT_MAX)
    if not budget.limit_nanos and not budget.limit_tokens:
        raise InvalidField(
            "budget.limit_nanos and budget.limit_tokens are 0, so that it would bound nothing. Set "
            "one of them, or delete the budget.",
            field="budget.limit_nanos",
        )


def _budget(request: pb.GetBudgetRequest | pb.DeleteBudgetRequest) -> None:
    names.parse(request.name, "budgets/*", "name")


def _list_budgets(request: pb.ListBudgetsRequest) -> None:
    paging.page_size(request.page_size)


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.GenerateTextRequest: _generate,
        pb.StreamGenerateTextRequest: _generate,
        pb.ListGenerationModelsRequest: _list,
        pb.GetGenerationModelRequest: _get,
        pb.EstimateCostRequest: _task,
        pb.SetBudgetRequest: _set_budget,
        pb.GetBudgetRequest: _budget,
        pb.ListBudgetsRequest: _list_budgets,
        pb.DeleteBudgetRequest: _budget,
    }
)
