"""A filter nested without end is refused with a reason, and whoever refused it still answers."""

from __future__ import annotations

import sys

import pytest
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.given import Given
from tests.behaviour.refusals import Refused
from tests.behaviour.rungs import Rung

LEVELS_MAX = 16


def deep(collection: str, levels: int) -> pb.CountPointsRequest:
    """A count whose filter has so many levels."""
    request = pb.CountPointsRequest(collection=collection)
    inner = request.filter
    for _ in range(levels - 1):
        inner = inner.any_of.filters.add()  # in place: protobuf copies no message this deep
    inner.exists.field = "a"
    return request


@pytest.mark.parametrize("levels", [LEVELS_MAX + 1, 1_000])
async def test_a_filter_of_too_many_levels_is_refused(
    rung: Rung, given: Given, levels: int
) -> None:
    collection = await given.vector_collection()
    limit = sys.getrecursionlimit()
    if rung.name == "rest":
        sys.setrecursionlimit(50_000)  # the test's own way to JSON, not the server's
    try:
        with pytest.raises(Refused) as refused:
            await rung.call("CountPoints", deep(collection, levels))
    finally:
        sys.setrecursionlimit(limit)
    # What has bytes to decode goes no deeper than protobuf, or JSON in Envoy, does.
    decoded = rung.name == "process" or levels < 30
    reason = "INVALID_FILTER" if decoded else "MALFORMED_MESSAGE"
    assert (refused.value.code, refused.value.reason) == ("INVALID_ARGUMENT", reason)
    assert (await rung.call("CountPoints", deep(collection, LEVELS_MAX))).count == 0
