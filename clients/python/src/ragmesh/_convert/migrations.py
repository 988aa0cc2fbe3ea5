"""Messages of migrations."""

from __future__ import annotations

from ragmesh._types import migrations as types
from ragmesh._types.retrieval import HnswSettings
from ragmesh._values import from_enum, from_time
from ragmesh.api.retrieval.v1 import migration_pb2


def migration(message: migration_pb2.Migration) -> types.Migration:
    hnsw = message.hnsw
    return types.Migration(
        collection=message.collection,
        state=from_enum(migration_pb2.Migration.State.DESCRIPTOR, message.state),
        problem=message.problem,
        embedding_model=message.embedding_model,
        fingerprint=message.fingerprint,
        dimensions=message.dimensions,
        hnsw=HnswSettings(hnsw.m, hnsw.ef_construction, hnsw.ef_search),
        points=message.points,
        points_left=message.points_left,
        watermark=message.watermark,
        queries=message.queries,
        overlap=message.overlap,
        recall_before=message.recall_before,
        recall_after=message.recall_after,
        create_time=from_time(message.create_time),
    )
