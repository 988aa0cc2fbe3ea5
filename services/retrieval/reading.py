"""Large upserts read from their bytes, without an object for each value.

`read_upsert` reads what is plain: points with an id, a vector, a text and a payload. Anything else,
be it wrong or only rare, it leaves to protobuf and the checks, so that what is wrong is said in one
place. Both ways write and index the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh_native.wire import read_points

from engine.errors import InvalidArgument
from services.retrieval import checks

if TYPE_CHECKING:
    from ragmesh_native.wire import Points

_POINTS = pb.UpsertPointsRequest.DESCRIPTOR.fields_by_name["points"].number


@dataclass(frozen=True, slots=True)
class UpsertRead:
    """An upsert that was read and checked. `head` is the request without its points."""

    data: bytes
    head: pb.UpsertPointsRequest
    points: Points

    @property
    def collection(self) -> str:
        """The name of the collection."""
        return self.head.collection

    def message(self) -> pb.UpsertPointsRequest:
        """The whole request."""
        return pb.UpsertPointsRequest.FromString(self.data)

    def canonical(self) -> bytes:
        """The whole request in the one form that equal requests have."""
        return self.message().SerializeToString(deterministic=True)


def read_upsert(data: bytes) -> UpsertRead | None:
    """A request that no check would refuse; None for one that has to be looked at as a message.
    Takes about 5 µs a point, most of it without the GIL."""
    points = read_points(
        data,
        _POINTS,
        checks.POINTS_MAX,
        checks.POINT_TEXT_CHARACTERS_MAX,
        checks.PAYLOAD_BYTES_MAX,
    )
    if points is None:
        return None
    try:
        head = pb.UpsertPointsRequest.FromString(points["rest"])
        head.DiscardUnknownFields()
        if head.ByteSize() != len(points["rest"]):
            return None
        ids, given = points["ids"], points["payload_sizes"]
        checks.upsert_read(head, ids, given, plain_ids=points["plain_ids"])
    except (DecodeError, InvalidArgument):
        return None
    return UpsertRead(data, head, points)
