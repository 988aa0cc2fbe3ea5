"""What makes a request about a migration wrong whatever the state."""

from __future__ import annotations

from ragmesh.api.retrieval.v1 import collection_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.rpc import fields, names


def hnsw(settings: collection_pb2.HnswSettings, field: str) -> None:
    """The bounds of a graph's settings; 0 stands for a default."""
    if settings.m:
        fields.number(settings.m, f"{field}.m", 2, 100)
    if settings.ef_construction:
        fields.number(settings.ef_construction, f"{field}.ef_construction", 8, 2_000)
    if settings.ef_search:
        fields.number(settings.ef_search, f"{field}.ef_search", 1, 4_096)


def start(request: pb.StartMigrationRequest) -> None:
    """The forms of names, and the settings."""
    names.collection_id(request.collection, "collection")
    if request.embedding_model:
        names.parse(request.embedding_model, "embeddingModels/*", "embedding_model")
    hnsw(request.hnsw, "hnsw")


def named(request: pb.GetMigrationRequest | pb.EndMigrationRequest) -> None:
    """The form of the name."""
    names.collection_id(request.collection, "collection")


def flip(request: pb.FlipMigrationRequest) -> None:
    """The form of the name, and a share."""
    names.collection_id(request.collection, "collection")
    fields.number(request.overlap_min, "overlap_min", 0, 1)
