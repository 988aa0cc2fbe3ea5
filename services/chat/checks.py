"""What makes a request of the chat service wrong whatever the state. What the siblings check
(the filter, the passages) is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.chat.v1 import chat_service_pb2 as pb

from services.rpc import fields, names, paging
from services.rpc.chain import Check

QUESTION_CHARACTERS_MAX = 10_000
COLLECTIONS_MAX = 16
PASSAGES_MAX = 100
CONTEXT_TOKENS_MIN = 50
CONTEXT_TOKENS_MAX = 100_000


def _ask(request: pb.AskQuestionRequest | pb.StreamAnswerRequest) -> None:
    fields.characters(request.question, "question", QUESTION_CHARACTERS_MAX, 1)
    fields.items(request.collections, "collections", COLLECTIONS_MAX)
    for index, name in enumerate(request.collections):
        names.parse(name, "collections/*", f"collections[{index}]")
    if request.generation_model:
        names.parse(request.generation_model, "generationModels/*", "generation_model")
    fields.number(request.passages_max, "passages_max", 0, PASSAGES_MAX)
    for name, watermark in request.min_watermarks.items():
        names.parse(name, "collections/*", "min_watermarks")
        fields.watermark(watermark, "min_watermarks")
    if request.context_tokens_max:
        fields.number(
            request.context_tokens_max,
            "context_tokens_max",
            CONTEXT_TOKENS_MIN,
            CONTEXT_TOKENS_MAX,
        )


def _named(request: pb.GetAnswerRequest | pb.CancelAnswerRequest) -> None:
    names.parse(request.name, "answers/*", "name")


def _resume(request: pb.ResumeAnswerRequest) -> None:
    names.parse(request.name, "answers/*", "name")
    fields.number(request.after_event_id, "after_event_id", 0, 2**31 - 1)


def _list(request: pb.ListAnswersRequest) -> None:
    paging.page_size(request.page_size)
    fields.enum(request, "state")


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.AskQuestionRequest: _ask,
        pb.StreamAnswerRequest: _ask,
        pb.GetAnswerRequest: _named,
        pb.ListAnswersRequest: _list,
        pb.ResumeAnswerRequest: _resume,
        pb.CancelAnswerRequest: _named,
    }
)
