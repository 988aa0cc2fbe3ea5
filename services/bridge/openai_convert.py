"""Between the shapes of OpenAI's API and the contract.

A model that is named `collections/{id}` stands for answers from that collection by the mesh's
default model; any other name is a generation model, and the collections come in the extra field
`collections`. What ragmesh knows beyond OpenAI's shapes is in the extra field `ragmesh`.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as chat
from ragmesh.api.embedding.v1 import embedding_service_pb2 as embedding
from ragmesh.api.generation.v1 import generation_service_pb2 as generation

from engine.errors import InvalidField
from services.bridge.convert import Failure, failure
from services.errors import from_status, row_of

Json = dict[str, Any]

NO_ANSWER = "I found nothing in the given collections that answers this."
"""What a chat shows where the model abstained: an empty message would look like a fault."""
_CHANGES_THE_ANSWER = {
    "tools": None,
    "functions": None,
    "tool_choice": "none",
    "response_format": {"type": "text"},
    "logprobs": False,
    "modalities": ["text"],
}
"""Parameters that ask for another kind of answer, each with the value that asks for nothing."""
_MESSAGES_MAX = 1_000
_TURNS_MAX, _QUESTION_CHARACTERS_MAX, _ANSWER_CHARACTERS_MAX = 20, 10_000, 20_000
"""What of the messages before goes along as what was said: less than the contract takes."""


@dataclass(frozen=True, slots=True)
class Completion:
    """What a request for a completion asks for. `model` is its own name for the model."""

    model: str
    request: chat.StreamAnswerRequest
    stream: bool
    include_usage: bool


def completion(body: Mapping[str, Any]) -> Completion:
    """Reads a request for a completion. Raises InvalidField."""
    for field, neutral in _CHANGES_THE_ANSWER.items():
        if body.get(field) not in (None, [], neutral):
            raise InvalidField(f"{field} is not supported here; leave it out.", field=field)
    if body.get("n") not in (None, 1):
        raise InvalidField(f"n is {str(body['n'])[:40]}; one answer is given.", field="n")
    model = _text(body, "model")
    question, history = _said(body.get("messages"))
    request = chat.StreamAnswerRequest(question=question, history=history)
    collections = _names(body.get("collections"), "collections")
    if model.startswith("collections/"):
        collections = [model, *collections]
    elif model != "default":
        request.generation_model = _named(model, "generationModels")
    if not collections:
        raise InvalidField(
            "Nothing says where to look: name a collection as the model, such as "
            "`collections/docs`, or several in the extra field `collections`.",
            field="collections",
        )
    request.collections.extend(dict.fromkeys(_named(one, "collections") for one in collections))
    for field in ("passages_max", "context_tokens_max"):
        setattr(request, field, _integer(body, field))
    if "filter" in body:
        _parse(body["filter"], request.filter, "filter")
    options = body.get("stream_options")
    usage = isinstance(options, dict) and bool(options.get("include_usage"))
    return Completion(model, request, bool(body.get("stream")), usage)


def unary(request: chat.StreamAnswerRequest) -> chat.AskQuestionRequest:
    """The same question for a whole answer: both forms have the same fields."""
    return chat.AskQuestionRequest.FromString(request.SerializeToString())


def completion_body(asked: Completion, answer: chat.Answer) -> Json:
    """A whole answer as a completion."""
    message = {"role": "assistant", "content": answer.text or NO_ANSWER, "refusal": None}
    return {
        "id": _id(answer.name),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": _usage(answer),
        "ragmesh": _extra(answer),
    }


def first_chunk(asked: Completion, name: str) -> Json:
    """The first piece of a streamed completion."""
    return _chunk(asked, name, {"role": "assistant", "content": ""})


def text_chunk(asked: Completion, name: str, text: str) -> Json:
    """More of its text."""
    return _chunk(asked, name, {"content": text})


def last_chunks(asked: Completion, answer: chat.Answer) -> list[Json]:
    """Its end: what it rests on, and what it cost if that was asked for."""
    delta = {} if answer.text else {"content": NO_ANSWER}
    end = _chunk(asked, answer.name, delta, "stop")
    end["ragmesh"] = _extra(answer)
    if not asked.include_usage:
        return [end]
    usage = _chunk(asked, answer.name, {})
    usage["choices"], usage["usage"] = [], _usage(answer)
    return [end, usage]


def embed_request(body: Mapping[str, Any]) -> embedding.EmbedTextsRequest:
    """Reads a request for embeddings. Raises InvalidField."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidField(
            "input is a text or a list of texts; tokens of another model mean nothing here.",
            field="input",
        )
    encoding = body.get("encoding_format", "float")
    if encoding not in ("float", "base64"):
        raise InvalidField("encoding_format is float or base64.", field="encoding_format")
    kinds = {"": 0, "query": embedding.INPUT_KIND_QUERY, "passage": embedding.INPUT_KIND_PASSAGE}
    kind = body.get("input_kind", "")
    if kind not in kinds:
        raise InvalidField("input_kind is query or passage.", field="input_kind")
    return embedding.EmbedTextsRequest(
        model=_named(_text(body, "model"), "embeddingModels"),
        texts=texts,
        dimensions=_integer(body, "dimensions"),
        input_kind=kinds[kind],  # type: ignore[arg-type]
    )


def embeddings_body(body: Mapping[str, Any], response: embedding.EmbedTextsResponse) -> Json:
    """Vectors in OpenAI's form: numbers, or little-endian float32 in base 64."""
    numbers = body.get("encoding_format", "float") == "float"
    data = []
    for index, one in enumerate(response.embeddings):
        packed = one.vector.packed
        value: object = (
            np.frombuffer(packed, dtype="<f4").tolist()
            if numbers
            else base64.b64encode(packed).decode()
        )
        data.append({"object": "embedding", "index": index, "embedding": value})
    tokens = sum(one.tokens for one in response.embeddings)
    return {
        "object": "list",
        "model": _text(body, "model"),
        "data": data,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def list_requests() -> tuple[Message, Message]:
    """The lists of generation and of embedding models: as many as a page has."""
    return (
        generation.ListGenerationModelsRequest(page_size=1_000),
        embedding.ListEmbeddingModelsRequest(page_size=1_000),
    )


def model_list(names: Sequence[str]) -> Json:
    """Models by their ids."""
    return {"object": "list", "data": [model_body(name) for name in names]}


def model_body(name: str) -> Json:
    """One model. When it came to be is not known."""
    return {"id": name, "object": "model", "created": 0, "owned_by": "ragmesh"}


def error_body(error: BaseException, request_id: str) -> tuple[Failure, Json]:
    """A failure in OpenAI's shape, beside the status and headers that it has anyhow."""
    answer = failure(error, request_id)
    status = json_format.Parse(answer.body, status_pb2.Status())
    reason = row_of(error).reason
    kind = "server_error"
    if answer.http_status == 429:
        kind = "rate_limit_error"
    elif answer.http_status < 500:
        kind = "invalid_request_error"
    message: Json = {
        "message": status.message,
        "type": kind,
        "param": getattr(error, "field", "") or None,
        "code": reason.lower(),
    }
    return answer, {"error": message}


def stream_error(event: chat.StreamAnswerResponse) -> BaseException:
    """The error with which a stream ended."""
    return from_status(event.failed)


def _chunk(asked: Completion, name: str, delta: Json, finish: str | None = None) -> Json:
    return {
        "id": _id(name),
        "object": "chat.completion.chunk",
        "created": int(time.time()),
        "model": asked.model,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}],
    }


def _id(name: str) -> str:
    return f"chatcmpl-{name.rpartition('/')[2]}"


def _usage(answer: chat.Answer) -> Json:
    used = answer.usage
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
    }


def _extra(answer: chat.Answer) -> Json:
    """What ragmesh says of an answer, in the contract's JSON."""
    whole: Json = json_format.MessageToDict(answer, always_print_fields_with_no_presence=True)
    names = ("citations", "confidence", "abstentionReason", "timings", "contextPassages")
    return {"answer": answer.name, **{name: whole[name] for name in names}}


def _said(messages: object) -> tuple[str, list[chat.ChatTurn]]:
    """The last message of the user's, and what was said before it: the newest turns, without what
    the contract does not take."""
    if not isinstance(messages, list) or not 1 <= len(messages) <= _MESSAGES_MAX:
        raise InvalidField(f"messages is a list of 1 to {_MESSAGES_MAX:,}.", field="messages")
    for index in reversed(range(len(messages))):
        message = messages[index]
        if isinstance(message, dict) and message.get("role") == "user":
            question = _content(message.get("content"), f"messages[{index}].content")
            return question, _turns(messages[:index])
    raise InvalidField("messages has none of role `user`.", field="messages")


def _turns(messages: Sequence[object]) -> list[chat.ChatTurn]:
    """Messages as turns: a question and the answer that follows it. Others are passed over."""
    turns: list[chat.ChatTurn] = []
    for index, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else ""
        if role not in ("user", "assistant"):
            continue
        content = message.get("content")  # type: ignore[attr-defined]
        text = _content(content, f"messages[{index}].content") if content else ""
        if role == "user" and 1 <= len(text) <= _QUESTION_CHARACTERS_MAX:
            turns.append(chat.ChatTurn(question=text))
        elif role == "assistant" and turns and not turns[-1].answer:
            turns[-1].answer = text[:_ANSWER_CHARACTERS_MAX]
    return turns[-_TURNS_MAX:]


def _content(content: object, field: str) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [None]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    if len(texts) != len(parts) or not all(isinstance(text, str) for text in texts):
        raise InvalidField(f"{field} is a text, or parts of type `text`.", field=field)
    return "\n".join(str(text) for text in texts)


def _names(value: object, field: str) -> list[str]:
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise InvalidField(f"{field} is a name or a list of names.", field=field)
    return listed


def _named(name: str, kind: str) -> str:
    return name if "/" in name else f"{kind}/{name}"


def _text(body: Mapping[str, Any], field: str) -> str:
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise InvalidField(f"{field} is missing, or no text.", field=field)
    return value


def _integer(body: Mapping[str, Any], field: str) -> int:
    value = body.get(field) or 0
    if not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidField(f"{field} is a whole number above 0.", field=field)
    return value


def _parse(value: object, message: Message, field: str) -> None:
    try:
        json_format.ParseDict(value, message)  # type: ignore[arg-type]
    except (json_format.ParseError, RecursionError, AttributeError, TypeError) as error:
        raise InvalidField(f"{field} cannot be read: {error}", field=field) from error
