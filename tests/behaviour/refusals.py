"""A refused call as a caller sees it, whatever carried it."""

from __future__ import annotations

import json

import grpc
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2


class Refused(Exception):
    """A call that failed: the canonical code's name, our reason (empty where the transport
    answered by itself), the sentence, and the details."""

    def __init__(self, status: status_pb2.Status, http_status: int = 0) -> None:
        self.code = code_pb2.Code.Name(status.code)
        self.message = status.message
        self.http_status = http_status
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: tuple[str, ...] = ()
        self.retry_after_s: float | None = None
        for detail in status.details:
            self._take(detail)
        super().__init__(f"{self.code} {self.reason}: {self.message} {self.metadata}")

    def _take(self, detail: object) -> None:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info):  # type: ignore[attr-defined]
            assert info.domain == "ragmesh", info
            self.reason, self.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(bad):  # type: ignore[attr-defined]
            self.fields = tuple(v.field for v in bad.field_violations)
        elif detail.Unpack(retry):  # type: ignore[attr-defined]
            self.retry_after_s = retry.retry_delay.ToMilliseconds() / 1000


def from_grpc(error: grpc.aio.AioRpcError) -> Refused:
    """From a gRPC call."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin" and isinstance(value, bytes):
            status = status_pb2.Status.FromString(value)
            assert (status.code, status.message) == (error.code().value[0], error.details())
            return Refused(status)
    return Refused(status_pb2.Status(code=error.code().value[0], message=error.details() or ""))


def from_http(http_status: int, body: bytes) -> Refused:
    """From a REST call. A body that is no google.rpc.Status fails the test."""
    status = json_format.ParseDict(json.loads(body), status_pb2.Status())
    assert status.code, (http_status, body)
    return Refused(status, http_status)
