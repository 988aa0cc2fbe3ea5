"""Hits as the bytes of a response, from the columns of segments, without an object for each.

Rows of buffers are written as messages, one by one; and where the columns hold what the native
writer leaves to others (payloads nested very deeply, text that is no text), all hits are.
"""

from __future__ import annotations

from collections.abc import Mapping

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh_native.wire import write_hits

from engine.index.columns import HitColumns
from engine.index.placed import Placed
from engine.index.search import Mode
from services.retrieval import convert
from services.rpc import names

_FIELDS = pb.SearchHit.DESCRIPTOR.fields_by_name
_SCORES: Mapping[Mode, int] = {
    Mode.DENSE: _FIELDS["dense_score"].number,
    Mode.LEXICAL: _FIELDS["lexical_score"].number,
    Mode.SPARSE: _FIELDS["sparse_score"].number,
}


def hits_bytes(placed: Placed, collection: str) -> bytes | None:
    """The `hits` of a SearchCollectionResponse, with text and payload unless the query is of ids
    only; None where only messages can say them."""
    segments = placed.view.segments
    columns: list[HitColumns | None] = [None] * len(segments)
    for segment in {segment for (segment, _), _ in placed.best}:
        sealed = segments[segment].sealed
        if sealed is not None:
            columns[segment] = sealed.rows.hit_columns
    bare = placed.query.ids_only
    points = {
        (segment, position): convert.point_message(
            segments[segment].rows.point(position), collection, bare=bare
        ).SerializeToString()
        for (segment, position), _ in placed.best
        if columns[segment] is None
    }
    # What a single leg says is a hit's own score.
    alone = len(placed.legs) == 1
    legs = tuple(
        (_SCORES[leg], None if alone else dict(found)) for leg, found in placed.legs.items()
    )
    prefix = names.document_name(collection, "")
    return write_hits(columns, placed.best, legs, points, prefix, bare)
