"""Messages and errors as the gateway's transcoder writes them: JSON, and google.rpc.Status."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import code_pb2
from ragmesh.api.documents.v1 import document_service_pb2 as pb

from engine.errors import InvalidField, MessageTooLarge, MethodNotFound, RagmeshError
from services.errors import to_status

# As the transcoder maps codes; beside it what Envoy itself says of bodies and paths.
_HTTP = {
    "OK": 200,
    "CANCELLED": 499,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
}
_SPECIAL: dict[type[BaseException], int] = {MessageTooLarge: 413, MethodNotFound: 404}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller says of an upload beside its bytes, in a query or in the fields of a form.
    `payload` is a JSON object, `replace_existing` is true or false."""

    document_id: str = ""
    display_name: str = ""
    media_type: str = ""
    source_uri: str = ""
    payload: str = ""
    request_id: str = ""
    replace_existing: str = ""


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a REST caller gets it."""

    http_status: int
    headers: dict[str, str]
    body: bytes


def header_message(collection: str, asked: Asked) -> pb.UploadDocumentRequest:
    """The first piece of an upload. Raises InvalidField for a payload that is no JSON object, and
    for a `replace_existing` that is neither true nor false."""
    request = pb.UploadDocumentRequest()
    header = request.header
    header.parent = f"collections/{collection}"
    header.document_id, header.request_id = asked.document_id, asked.request_id
    if asked.replace_existing not in ("", "true", "false"):
        raise InvalidField(
            f"replace_existing is {asked.replace_existing[:40]!r}; it is true or false.",
            field="replace_existing",
        )
    header.replace_existing = asked.replace_existing == "true"
    document = header.document
    document.display_name, document.media_type = asked.display_name, asked.media_type
    document.source_uri = asked.source_uri
    if asked.payload:
        try:
            json_format.Parse(asked.payload, document.payload)
        except (json_format.ParseError, RecursionError) as error:
            raise InvalidField(
                f"payload is no JSON object: {error}", field="document.payload"
            ) from error
    return request


def data_message(data: bytes) -> pb.UploadDocumentRequest:
    """A piece of the file."""
    return pb.UploadDocumentRequest(data=data)


def end_message(sha256: str) -> pb.UploadDocumentRequest:
    """The last piece, which says that all was sent."""
    return pb.UploadDocumentRequest(end=pb.UploadEnd(content_sha256=sha256))


def to_json(message: Message) -> bytes:
    """A message as the transcoder prints it: camelCase, with fields that have default values."""
    value: dict[str, Any] = json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True
    )
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def failure(error: BaseException, request_id: str) -> Failure:
    """The answer to a call that failed. What is not a RagmeshError is not explained."""
    status = to_status(error, request_id)
    code = _SPECIAL.get(type(error), _HTTP.get(code_pb2.Code.Name(status.code), 500))
    headers = {"x-request-id": request_id}
    if isinstance(error, RagmeshError) and error.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(error.retry_after_s)))
    return Failure(code, headers, to_json(status))
