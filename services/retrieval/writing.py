"""Upserts between what was asked and what is written: the same write, whichever way it was read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import InvalidVector
from engine.index.exact import Metric, prepare_matrix
from engine.index.storage import Storage, check_range
from engine.index.written import WrittenPayload
from engine.types import Point
from services.retrieval.index.own_writes import Prepared
from services.retrieval.reading import UpsertRead
from services.store.arrays import ByteaArray, TextArray
from services.store.collections import Collection
from services.store.points import Batch, PlainPoints, PointRow, plain_batch, prepared_batch


@dataclass(frozen=True, slots=True)
class Write:
    """What one upsert writes: for the log, and for the index of this node."""

    batch: Batch
    ids: Sequence[str]
    own: Sequence[PointRow] | Prepared


def write_of(collection: Collection, rows: Sequence[PointRow]) -> Write:
    """A write of complete rows. Raises as `prepared_batch` does."""
    return Write(prepared_batch(collection, rows), [row.id for row in rows], rows)


def plain_write(collection: Collection, read: UpsertRead) -> Write | None:
    """A write of what was read; None where its vectors are not plainly the collection's."""
    points = read.points
    vectors = points["vectors"]
    if vectors.shape[1] != collection.dimensions:
        return None
    prepared = prepare_matrix(Metric(collection.metric), vectors)
    if prepared is None:
        return None
    try:
        check_range(Storage(collection.vector_storage), prepared, "points")
    except InvalidVector:
        return None
    ids = points["ids"]
    plain = PlainPoints(
        TextArray(points["ids_array"]),
        ByteaArray(points["vectors_array"]),
        TextArray(points["texts_array"]),
        TextArray(points["payloads_array"]),
        len(ids),
    )
    own = [
        Point(id, None, text, WrittenPayload(payload))
        for id, text, payload in zip(ids, points["texts"], points["payloads"], strict=True)
    ]
    return Write(plain_batch(collection, plain), ids, Prepared(own, prepared))
