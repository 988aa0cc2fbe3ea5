"""What makes a request of the chat service wrong whatever the state. What the siblings check
(the filter, the passages) is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.chat.v1 import chat_service_pb2 as pb

from engine.errors import InvalidField
from services.rpc import fields, names, paging
from services.rpc.chain import Check

QUESTION_CHARACTERS_MAX = 10_000
COLLECTIONS_MAX = 16
PASSAGES_MAX = 100
CONTEXT_TOKENS_MIN = 50
CONTEXT_TOKENS_MAX = 100_000
TURNS_MAX = 100
ANSWER_CHARACTERS_MAX = 100_000
SUBJECT_CHARACTERS_MAX = 256


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
    _before(request)


def _before(request: pb.AskQuestionRequest | pb.StreamAnswerRequest) -> None:
    """What was said before, and what becomes of what nothing supports."""
    if request.unsupported not in pb.UnsupportedPolicy.values():
        raise InvalidField(
            f"unsupported is {request.unsupported}; it must be one of "
            f"{', '.join(pb.UnsupportedPolicy.keys()[1:])}.",
            field="unsupported",
            metadata={"unsupported": request.unsupported},
        )
    if request.HasField("confidence_min"):
        fields.number(request.confidence_min, "confidence_min", 0, 1)
    fields.characters(request.memory_subject, "memory_subject", SUBJECT_CHARACTERS_MAX, 0)
    if request.memory_subject:
        # Answers quote what they read, and erasing a subject does not find them yet.
        raise InvalidField(
            f"memory_subject is {request.memory_subject!r}, but answers do not read memories yet. "
            "Leave it empty, or call RecallMemories and say what it finds in the question.",
            field="memory_subject",
        )
    fields.items(request.history, "history", TURNS_MAX, 0)
    for index, turn in enumerate(request.history):
        fields.characters(turn.question, f"history[{index}].question", QUESTION_CHARACTERS_MAX, 1)
        fields.characters(turn.answer, f"history[{index}].answer", ANSWER_CHARACTERS_MAX, 0)
    if request.session:
        names.parse(request.session, "sessions/*", "session")
        if request.history:
            raise InvalidField(
                "session and history are both given; give the session, which has its own history, "
                "or the history alone.",
                field="history",
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
