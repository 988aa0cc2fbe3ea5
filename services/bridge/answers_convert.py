"""Events of answers as server-sent events and as messages of a socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2 as pb

from engine.errors import InvalidField
from services.errors import to_status

EVENT_ID_MAX = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Told:
    """An event. `kind` is its name in the contract, `answer` the answer's name where the event
    says it; `last` says that nothing follows."""

    event_id: int
    kind: str
    answer: str
    last: bool
    message: pb.StreamAnswerResponse


def told(message: Message, *, unwrap: bool) -> Told:
    """An event of StreamAnswer, or one of ResumeAnswer, which wraps it."""
    event: Any = message.event if unwrap else message  # type: ignore[attr-defined]
    kind = event.WhichOneof("event") or ""
    name = event.started.answer if kind == "started" else ""
    return Told(event.event_id, kind, name, kind in ("finished", "failed"), event)


def resume_request(name: str, after: int) -> pb.ResumeAnswerRequest:
    """The events of an answer after one of them."""
    return pb.ResumeAnswerRequest(name=name, after_event_id=after)


def cancel_request(name: str) -> pb.CancelAnswerRequest:
    """The end of an answer."""
    return pb.CancelAnswerRequest(name=name)


def ask_request(value: object) -> pb.StreamAnswerRequest:
    """A question as JSON. Raises InvalidField for what the contract does not know."""
    if not isinstance(value, dict):
        raise InvalidField("request is no JSON object.", field="request")
    try:
        return json_format.ParseDict(value, pb.StreamAnswerRequest())
    except (json_format.ParseError, RecursionError) as error:
        raise InvalidField(f"request cannot be read: {error}", field="request") from error


def event_id(given: str, field: str) -> int:
    """The number of an event that a caller names; 0 for none. Raises InvalidField."""
    if not given:
        return 0
    if not (given.isascii() and given.isdigit() and len(given) <= 10 and int(given) < 2**31):
        raise InvalidField(
            f"{field} is {given[:40]!r}, but the id of an event is a number from 0 to "
            f"{EVENT_ID_MAX:,}. Pass the last `id` that was received.",
            field=field,
        )
    return int(given)


def as_dict(message: Message) -> dict[str, Any]:
    """A message in the transcoder's JSON."""
    found: dict[str, Any] = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True
    )
    return found


def status_dict(error: BaseException, request_id: str) -> dict[str, Any]:
    """An error as google.rpc.Status in JSON."""
    return status_as_dict(to_status(error, request_id))


def status_as_dict(status: status_pb2.Status) -> dict[str, Any]:
    """A status in JSON."""
    return as_dict(status)


def server_sent(event: Told) -> bytes:
    """An event in the form of text/event-stream, with its id; a comment for a sign of life."""
    if event.kind == "heartbeat":
        return b": heartbeat\n\n"
    data = compact(as_dict(event.message))
    return f"id: {event.event_id}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def compact(value: Mapping[str, Any]) -> str:
    """JSON on one line."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
