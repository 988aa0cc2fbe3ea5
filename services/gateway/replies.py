"""Envoy's own failures in the form that services use: google.rpc.Status with an ErrorInfo.

REST callers get JSON. gRPC and gRPC-Web callers get the same code and reason in
`grpc-status-details-bin`; the request id is in the header `x-request-id` of every answer.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from google.protobuf import any_pb2, duration_pb2
from google.rpc import code_pb2, error_details_pb2, status_pb2

from services.gateway.settings import MIB, GatewaySettings
from services.gateway.xds import Json, typed

DOMAIN = "ragmesh"

_GRPC_CALLER = (
    "('content-type' in request.headers"
    " && request.headers['content-type'].startsWith('application/grpc')"
    " && !('x-envoy-original-path' in request.headers))"
)
"""True for gRPC and gRPC-Web callers. The transcoder turns a REST request's content type into
that of gRPC, and leaves its path in `x-envoy-original-path` (stripped from what callers send)."""


_WEB_CALLER = f"{_GRPC_CALLER} && ('x-grpc-web' in request.headers)"
"""True for gRPC-Web callers, whose libraries send that header."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One kind of failure of Envoy's own. `when` is a CEL expression over the failed request;
    what Envoy adds at the end of `message` (`%…%`) is not for gRPC callers, whose details have to
    be fixed."""

    when: str
    http_status: int
    code: str
    reason: str
    message: str
    metadata: tuple[tuple[str, str], ...] = ()
    retry_after_s: int = 0


def replies(settings: GatewaySettings) -> tuple[Reply, ...]:
    """Every kind, the special before the general: the first that matches answers."""
    limit = settings.body_bytes_max
    named = f"{limit // MIB} MiB" if limit % MIB == 0 else f"{limit} bytes"
    large = (("limit_bytes", str(limit)),)
    return (
        Reply(
            "response.code == 413",
            413,
            "RESOURCE_EXHAUSTED",
            "MESSAGE_TOO_LARGE",
            f"the request body is over the limit of {named}; send less, or use gRPC and split it",
            large,
        ),
        Reply(
            "response.code == 500 && response.code_details.contains('response_buffer_size_limit')",
            500,
            "RESOURCE_EXHAUSTED",
            "MESSAGE_TOO_LARGE",
            f"the response body is over the limit of {named}; ask for a smaller page, or use gRPC",
            large,
        ),
        Reply(
            "response.code == 429",
            429,
            "RESOURCE_EXHAUSTED",
            "RATE_LIMITED",
            f"the gateway takes {settings.requests_per_s} requests a second; try again in 1 s",
            (("requests_per_s", str(settings.requests_per_s)),),
            retry_after_s=1,
        ),
        Reply(
            "response.code == 404 || response.code == 405",
            404,
            "NOT_FOUND",
            "METHOD_NOT_FOUND",
            "no such path or method; GET /openapi.json lists them",
        ),
        Reply(
            "response.code == 408 || response.code == 504",
            504,
            "DEADLINE_EXCEEDED",
            "DEADLINE_EXCEEDED",
            "the call took longer than its deadline; allow more time or ask for less",
        ),
        Reply(
            "response.code == 502 || response.code == 503",
            503,
            "UNAVAILABLE",
            "SERVICE_UNAVAILABLE",
            "no node serves this service now; try again",
            retry_after_s=1,
        ),
        Reply(
            "response.code == 431",
            431,
            "RESOURCE_EXHAUSTED",
            "MESSAGE_TOO_LARGE",
            "the request headers are over the limit of 60 KiB; send fewer",
            (("limit_bytes", str(60 * 1024)),),
        ),
        Reply(
            "response.code == 400 && response.code_details.startsWith('early_grpc_json')",
            400,
            "INVALID_ARGUMENT",
            "INVALID_FIELD",
            "the path or the query does not fit the request: %LOCAL_REPLY_BODY%",
        ),
        Reply(
            "response.code == 400 && response.code_details.startsWith('grpc_json')",
            400,
            "INVALID_ARGUMENT",
            "MALFORMED_MESSAGE",
            "the body cannot be read: %LOCAL_REPLY_BODY%",
        ),
        Reply(
            "response.code >= 400 && response.code < 500",
            400,
            "INVALID_ARGUMENT",
            "MALFORMED_MESSAGE",
            "the path or a header is refused: %RESPONSE_CODE_DETAILS%",
        ),
        Reply(
            "response.code >= 500",
            500,
            "INTERNAL",
            "INTERNAL",
            "the gateway failed; its access log has the request id",
        ),
    )


def local_reply_config(settings: GatewaySettings) -> Json:
    """The HTTP connection manager's `local_reply_config`. Replies that are no failures, such as
    `/openapi.json`, stay as they are."""
    mappers = []
    for reply in replies(settings):
        mappers.append(_mapper(f"{_WEB_CALLER} && ({reply.when})", grpc_web_reply(reply)))
        mappers.append(_mapper(f"{_GRPC_CALLER} && ({reply.when})", grpc_reply(reply)))
        mappers.append(_mapper(reply.when, rest_reply(reply)))
    return {"mappers": mappers, "body_format": _text("%LOCAL_REPLY_BODY%")}


def _mapper(when: str, answer: Json) -> Json:
    cel = typed("envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter", expression=when)
    extension = {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": cel}
    return {"filter": {"extension_filter": extension}, **answer}


def rest_reply(reply: Reply) -> Json:
    """The answer to a REST caller: JSON as the transcoder prints a google.rpc.Status."""
    info = {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reply.reason,
        "domain": DOMAIN,
        "metadata": {**dict(reply.metadata), "request_id": "%REQ(X-REQUEST-ID)%"},
    }
    details: list[Json] = [info]
    headers = []
    if reply.retry_after_s:
        retry = {"@type": "type.googleapis.com/google.rpc.RetryInfo"}
        details.append({**retry, "retryDelay": f"{reply.retry_after_s}s"})
        headers.append(_header("retry-after", str(reply.retry_after_s)))
    code = code_pb2.Code.Value(reply.code)
    body = {"code": code, "message": reply.message, "details": details}
    return {
        "status_code": reply.http_status,
        "body_format_override": {
            "json_format": body,
            "content_type": "application/json",
            # A request refused before it got an id has none.
            "omit_empty_values": True,
        },
        "headers_to_add": headers,
    }


def grpc_reply(reply: Reply) -> Json:
    """The answer to a gRPC caller; Envoy makes the body its `grpc-message`."""
    status = _status(reply)
    return {"body_format_override": _text(status.message), "headers_to_add": _trailers(status)}


def grpc_web_reply(reply: Reply) -> Json:
    """The answer to a gRPC-Web caller: only headers, which stand for the trailers."""
    status = _status(reply)
    return {
        "status_code": 200,
        "body_format_override": {**_text(""), "content_type": "application/grpc-web+proto"},
        "headers_to_add": [_header("grpc-message", status.message), *_trailers(status)],
    }


def _trailers(status: status_pb2.Status) -> list[Json]:
    packed = base64.b64encode(status.SerializeToString(deterministic=True)).decode().rstrip("=")
    return [
        _header("grpc-status", str(status.code)),
        _header("grpc-status-details-bin", packed),
    ]


def _status(reply: Reply) -> status_pb2.Status:
    """The failure without what Envoy would add. METHOD_NOT_FOUND is UNIMPLEMENTED in gRPC."""
    name = "UNIMPLEMENTED" if reply.reason == "METHOD_NOT_FOUND" else reply.code
    info = error_details_pb2.ErrorInfo(
        reason=reply.reason, domain=DOMAIN, metadata=dict(reply.metadata)
    )
    details = [any_pb2.Any()]
    details[0].Pack(info)
    if reply.retry_after_s:
        delay = duration_pb2.Duration(seconds=reply.retry_after_s)
        details.append(any_pb2.Any())
        details[1].Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    message = reply.message.partition(": %")[0]
    return status_pb2.Status(code=code_pb2.Code.Value(name), message=message, details=details)


def _text(text: str) -> Json:
    return {"text_format_source": {"inline_string": text}}


def _header(key: str, value: str) -> Json:
    return {
        "header": {"key": key, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
