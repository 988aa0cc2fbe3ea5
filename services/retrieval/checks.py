"""What makes a request of the retrieval service wrong whatever the state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Sized
from types import MappingProxyType

from google.protobuf.message import Message
from ragmesh.api.retrieval.v1 import collection_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import InvalidField
from engine.index.filter_limits import CONDITIONS_MAX
from services.retrieval import migration_checks, search_checks, snapshot_checks
from services.rpc import fields, names, paging
from services.rpc.chain import Check

POINTS_MAX = 1_000
POINT_TEXT_CHARACTERS_MAX = 100_000
PAYLOAD_BYTES_MAX = 64 << 10
DIMENSIONS_MAX = 4_096


STORED_MAX = 2**53
"""What a double can count, as JSON has it."""
RATE_MAX = 1e6
_LIMITS_MAX = MappingProxyType(
    {
        "limit_max": search_checks.LIMIT_MAX,
        "ef_search_max": search_checks.EF_SEARCH_MAX,
        "upsert_points_max": POINTS_MAX,
        "payload_bytes_max": PAYLOAD_BYTES_MAX,
        "filter_conditions_max": CONDITIONS_MAX,
        "points_max": STORED_MAX,
        "bytes_max": STORED_MAX,
        "searches_per_second": RATE_MAX,
        "writes_per_second": RATE_MAX,
    }
)


def _limits(limits: collection_pb2.CollectionLimits, field: str) -> None:
    for name, bound in _LIMITS_MAX.items():
        fields.number(getattr(limits, name), f"{field}.{name}", 0, bound)


def _settings(collection: collection_pb2.Collection, field: str) -> None:
    fields.characters(collection.display_name, f"{field}.display_name", 200)
    fields.storable(collection.display_name, f"{field}.display_name")
    chunking = collection.chunking
    if chunking.tokens_max:
        fields.number(chunking.tokens_max, f"{field}.chunking.tokens_max", 16, 2_048)
    if chunking.HasField("overlap_tokens"):
        most = (chunking.tokens_max or 200) // 2
        fields.number(chunking.overlap_tokens, f"{field}.chunking.overlap_tokens", 0, most)
    fields.enum(chunking, "strategy")
    migration_checks.hnsw(collection.hnsw, f"{field}.hnsw")
    _limits(collection.limits, f"{field}.limits")
    for name in ("sample_share", "target"):
        fields.number(getattr(collection.recall, name), f"{field}.recall.{name}", 0, 1)
    fields.enum(collection, "vector_storage")
    if collection.rerank_model:
        names.parse(collection.rerank_model, "embeddingModels/*", f"{field}.rerank_model")


def _create(request: pb.CreateCollectionRequest) -> None:
    fields.request_id(request.request_id)
    if request.collection_id:
        names.check_id(request.collection_id, "collection_id")
    collection = request.collection
    _settings(collection, "collection")
    fields.enum(collection, "metric")
    fields.number(collection.dimensions, "collection.dimensions", 0, DIMENSIONS_MAX)
    if collection.language not in ("", "en"):
        raise InvalidField(
            f"collection.language is {collection.language[:20]!r}; the lexical side stems: en.",
            field="collection.language",
            metadata={"languages": "en"},
        )
    if collection.embedding_model:
        names.parse(collection.embedding_model, "embeddingModels/*", "collection.embedding_model")


def _update(request: pb.UpdateCollectionRequest) -> None:
    names.collection_id(request.collection.name, "collection.name")
    _settings(request.collection, "collection")


def _named(request: Message) -> None:
    names.collection_id(getattr(request, "name"))  # noqa: B009 - the field of several messages


def _list(request: pb.ListCollectionsRequest) -> None:
    paging.page_size(request.page_size)


def _point_ids(ids: Sequence[str], field: str) -> None:
    fields.items(ids, field, POINTS_MAX)
    for index, value in enumerate(ids):
        search_checks.point_id(value, f"{field}[{index}]")


_PASSAGE_ID = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?#[0-9]+")


def _own_id(value: str, field: str) -> None:
    """An id that is not of the form that passages of documents have."""
    search_checks.point_id(value, field)
    if _PASSAGE_ID.fullmatch(value):
        raise InvalidField(
            f"{field} is {value!r}, the form of a passage's id. Passages come and go with their "
            "documents: use CreateDocument and DeleteDocument, or choose another id.",
            field=field,
            metadata={"field": field, "id": value},
        )


def _point(point: point_pb2.Point, field: str) -> None:
    _own_id(point.id, f"{field}.id")
    fields.characters(point.text, f"{field}.text", POINT_TEXT_CHARACTERS_MAX)
    fields.storable(point.text, f"{field}.text")
    fields.payload(point.payload, f"{field}.payload", PAYLOAD_BYTES_MAX)
    if not point.HasField("vector") and not point.text and not point.HasField("sparse_vector"):
        raise InvalidField(
            f"{field} has neither vector nor text nor sparse_vector; it could never be found.",
            field=field,
            metadata={"field": field},
        )
    present = {descriptor.name for descriptor, _ in point.ListFields()}
    for output_only in ("document", "passage_index", "span", "sentences"):
        if output_only in present:
            raise InvalidField(
                f"{field}.{output_only} is output only; passages come from documents.",
                field=f"{field}.{output_only}",
            )


def _upsert(request: pb.UpsertPointsRequest) -> None:
    names.collection_id(request.collection, "collection")
    fields.request_id(request.request_id)
    fields.items(request.points, "points", POINTS_MAX)
    for index, point in enumerate(request.points):
        _point(point, f"points[{index}]")


def upsert_read(
    head: pb.UpsertPointsRequest, ids: Sequence[str], given: Sized, *, plain_ids: bool
) -> None:
    """What is left to check of an upsert of so many `given` points after `read_points`, which said
    `plain_ids` of their ids. Raises InvalidArgument errors."""
    names.collection_id(head.collection, "collection")
    fields.request_id(head.request_id)
    fields.items(given, "points", POINTS_MAX)
    if not plain_ids:
        for value in ids:
            _own_id(value, "points.id")


def _delete(request: pb.DeletePointsRequest) -> None:
    names.collection_id(request.collection, "collection")
    fields.request_id(request.request_id)
    if request.HasField("filter") == bool(request.ids):
        raise InvalidField("Give either ids or a filter.", field="ids")
    if request.ids:
        fields.items(request.ids, "ids", POINTS_MAX)
        for index, value in enumerate(request.ids):
            _own_id(value, f"ids[{index}]")


def _get(request: pb.GetPointsRequest) -> None:
    names.collection_id(request.collection, "collection")
    _point_ids(request.ids, "ids")
    fields.watermark(request.min_watermark)


def _list_points(request: pb.ListPointsRequest) -> None:
    names.collection_id(request.collection, "collection")
    paging.page_size(request.page_size)
    fields.watermark(request.min_watermark)


def _count(request: pb.CountPointsRequest) -> None:
    names.collection_id(request.collection, "collection")
    fields.watermark(request.min_watermark)


def _restore(request: pb.RestoreSnapshotRequest) -> None:
    snapshot_checks.restore(request)
    _limits(request.limits, "limits")


def _import(request: pb.ImportSnapshotRequest) -> None:
    snapshot_checks.imported(request)
    _limits(request.header.limits, "header.limits")


CHECKS: Mapping[type[Message], Check] = MappingProxyType(
    {
        pb.CreateCollectionRequest: _create,
        pb.GetCollectionRequest: _named,
        pb.ListCollectionsRequest: _list,
        pb.UpdateCollectionRequest: _update,
        pb.DeleteCollectionRequest: _named,
        pb.GetCollectionStatsRequest: _named,
        pb.UpsertPointsRequest: _upsert,
        pb.DeletePointsRequest: _delete,
        pb.GetPointsRequest: _get,
        pb.ListPointsRequest: _list_points,
        pb.CountPointsRequest: _count,
        pb.SearchCollectionRequest: search_checks.search,
        pb.BatchSearchCollectionRequest: search_checks.batch,
        pb.CompactCollectionRequest: snapshot_checks.compact,
        pb.CreateSnapshotRequest: snapshot_checks.create,
        pb.GetSnapshotRequest: snapshot_checks.named,
        pb.ListSnapshotsRequest: snapshot_checks.listed,
        pb.DeleteSnapshotRequest: snapshot_checks.named,
        pb.RestoreSnapshotRequest: _restore,
        pb.ExportSnapshotRequest: snapshot_checks.exported,
        pb.ImportSnapshotRequest: _import,
        pb.StartMigrationRequest: migration_checks.start,
        pb.GetMigrationRequest: migration_checks.named,
        pb.FlipMigrationRequest: migration_checks.flip,
        pb.EndMigrationRequest: migration_checks.named,
    }
)
