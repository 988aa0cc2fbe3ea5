"""Turns what the transport says about a failure into this package's errors."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import message as protobuf
from google.rpc import error_details_pb2, status_pb2

from ragmesh import _errors as errors

DOMAIN = "ragmesh"
# Where gRPC puts a serialized google.rpc.Status with an error's details.
DETAILS_KEY = "grpc-status-details-bin"
REQUEST_ID_KEY = "x-request-id"

# For failures without a reason of ours: the transport's, a proxy's, a newer server's.
CLASS_BY_CODE: dict[grpc.StatusCode, type[errors.RagmeshError]] = {
    grpc.StatusCode.CANCELLED: errors.Cancelled,
    grpc.StatusCode.UNKNOWN: errors.Internal,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.Exhausted,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.ABORTED: errors.FailedPrecondition,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.UNIMPLEMENTED: errors.MethodNotFound,
    grpc.StatusCode.INTERNAL: errors.Internal,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
}
_CODE_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

Metadata = Iterable[tuple[str, str | bytes]]


def from_rpc(
    code: grpc.StatusCode,
    text: str,
    trailers: Metadata | None,
    *,
    request_id: str,
    address: str,
    timeout_s: float,
) -> errors.RagmeshError:
    """The error of a call that ended with `code`; `trailers` may carry the details."""
    status = status_pb2.Status(code=code.value[0], message=text)
    for key, value in trailers or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            status = _parsed(value) or status
        elif key == REQUEST_ID_KEY and isinstance(value, str) and value:
            request_id = value
    error = from_status(status, request_id=request_id)
    if not error.reason or not status.details:
        return _explained(error, address=address, timeout_s=timeout_s)
    return error


def from_status(status: status_pb2.Status, *, request_id: str = "") -> errors.RagmeshError:
    """The error of a google.rpc.Status, as streams and ingest jobs carry it."""
    reason = ""
    metadata: dict[str, str] = {}
    violations: list[errors.FieldViolation] = []
    retry_after_s: float | None = None
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry, request = error_details_pb2.RetryInfo(), error_details_pb2.RequestInfo()
        if detail.Is(info.DESCRIPTOR) and detail.Unpack(info) and info.domain == DOMAIN:
            reason, metadata = info.reason, dict(info.metadata)
        elif detail.Is(bad.DESCRIPTOR) and detail.Unpack(bad):
            violations += [
                errors.FieldViolation(v.field, v.description) for v in bad.field_violations
            ]
        elif detail.Is(retry.DESCRIPTOR) and detail.Unpack(retry):
            retry_after_s = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        elif detail.Is(request.DESCRIPTOR) and detail.Unpack(request):
            request_id = request.request_id or request_id
    code = _CODE_BY_NUMBER.get(status.code, grpc.StatusCode.UNKNOWN)
    kind = errors.CLASS_BY_REASON.get(reason) or CLASS_BY_CODE.get(code, errors.Internal)
    return kind(
        status.message or f"The call ended with {code.name} and no message.",
        reason=reason or None,
        metadata=metadata,
        field_violations=violations,
        retry_after_s=retry_after_s,
        request_id=request_id,
    )


def _parsed(data: bytes) -> status_pb2.Status | None:
    try:
        return status_pb2.Status.FromString(data)
    except protobuf.DecodeError:
        return None


def _explained(
    error: errors.RagmeshError, *, address: str, timeout_s: float
) -> errors.RagmeshError:
    """Adds the next step to what the transport alone can say."""
    kind, message = type(error), error.message
    metadata = {"address": address}
    if kind is errors.Unavailable:
        message = (
            f"No ragmesh answers at {address} ({message}). Check the address, "
            "or start one with `ragmesh up`."
        )
    elif kind is errors.DeadlineExceeded:
        metadata["timeout_s"] = f"{timeout_s:g}"
        message = f"No answer from {address} within {timeout_s:g} s. Give a larger `timeout_s`."
    elif kind is errors.Exhausted and "larger than max" in message:
        # gRPC's own refusal has no details; its sentence is all there is to recognize it by.
        kind = errors.MessageTooLarge
        message = f"{message}. Ask for fewer items in one call."
    elif kind is errors.MethodNotFound:
        message = f"{address} has no such method ({message}). Update the server, or this client."
    else:
        return error
    return kind(
        message,
        metadata=metadata,
        field_violations=error.field_violations,
        retry_after_s=error.retry_after_s,
        request_id=error.request_id,
    )
