"""Handlers of migrations: check, call, translate, answer."""

from __future__ import annotations

from dataclasses import asdict, fields, replace

from ragmesh.api.retrieval.v1 import collection_pb2, migration_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import InvalidField
from services.retrieval import convert
from services.retrieval.servicer.base import Handlers
from services.rpc import names
from services.rpc.call import Call
from services.rpc.values import timestamp
from services.store import collections as rows
from services.store import index_migrations as kept
from services.store.collections import Collection, CollectionLimits, CollectionSpec
from services.store.index_migrations import Migration
from services.store.store import Tx

_State = migration_pb2.Migration.State


class MigrationHandlers(Handlers):
    """Builds a second index of a collection, and exchanges it with the first."""

    async def StartMigration(
        self, request: pb.StartMigrationRequest, call: Call
    ) -> pb.StartMigrationResponse:
        """Begins to build a second index."""
        collection_id = names.collection_id(request.collection, "collection")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            source = await rows.get_collection(tx, collection_id)
        spec = await self._spec(source, request, call)

        async def work(tx: Tx) -> pb.StartMigrationResponse:
            if spec.fingerprint != source.fingerprint:
                point_id = await kept.find_unembeddable(tx, source)
                if point_id is not None:
                    raise kept.not_ready(
                        collection_id,
                        f"point {point_id!r} has no text to embed with {spec.embedding_model}; "
                        "give it one or delete it, and start again",
                    )
            made = await kept.start(tx, collection_id, spec)
            return pb.StartMigrationResponse(migration=await _message(tx, collection_id, made))

        response = await self._store.run(call.tenant, work, timeout_s=call.remaining_s())
        self._migrator.nudge()
        return response

    async def GetMigration(
        self, request: pb.GetMigrationRequest, call: Call
    ) -> pb.GetMigrationResponse:
        """Says how far a migration is."""
        return pb.GetMigrationResponse(migration=await self._migration(request.collection, call))

    async def FlipMigration(
        self, request: pb.FlipMigrationRequest, call: Call
    ) -> pb.FlipMigrationResponse:
        """Exchanges the indexes."""
        await self._migrator.flip(
            names.collection_id(request.collection, "collection"),
            roll_back=request.roll_back,
            overlap_min=request.overlap_min,
            call=call,
        )
        return pb.FlipMigrationResponse(migration=await self._migration(request.collection, call))

    async def EndMigration(
        self, request: pb.EndMigrationRequest, call: Call
    ) -> pb.EndMigrationResponse:
        """Removes the index that the name does not lead to."""
        collection_id = names.collection_id(request.collection, "collection")

        async def end(tx: Tx) -> tuple[Collection, Collection]:
            return await kept.end(tx, collection_id), await rows.get_collection(tx, collection_id)

        # Once more after a deadlock: the mirror takes the same locks, and others before them.
        gone, row = await self._store.run(call.tenant, end, timeout_s=call.remaining_s())
        self._indexes.forget(gone)
        return pb.EndMigrationResponse(collection=convert.collection_message(row))

    async def _migration(self, name: str, call: Call) -> migration_pb2.Migration:
        collection_id = names.collection_id(name, "collection")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            row = await rows.get_collection(tx, collection_id)
            return await _message(tx, collection_id, await kept.get(tx, row))

    async def _spec(
        self, source: Collection, request: pb.StartMigrationRequest, call: Call
    ) -> CollectionSpec:
        """What the second index is made with. Raises InvalidField where nothing would change."""
        given = {name: getattr(source, name) for name in CollectionSpec.__dataclass_fields__}
        # What is limited is the collection, not what stands in for it.
        spec = replace(CollectionSpec(**given), **asdict(CollectionLimits()))
        name = request.embedding_model
        if name and name != source.embedding_model:
            model = await self._core.model_of(name, call)
            spec = replace(
                spec,
                embedding_model=model.name,
                fingerprint=model.fingerprint,
                dimensions=model.dimensions,
            )
        elif name:
            # The model may have other weights under the same name by now.
            model = await self._core.model_of(name, call)
            spec = replace(spec, fingerprint=model.fingerprint, dimensions=model.dimensions)
        asked = request.hnsw
        chosen = {
            f"hnsw_{one}": getattr(asked, one)
            for one in ("m", "ef_construction", "ef_search")
            if getattr(asked, one)
        }
        spec = replace(spec, **chosen)
        index = [field.name for field in fields(CollectionSpec) if field.name.startswith("hnsw_")]
        if all(getattr(spec, one) == getattr(source, one) for one in ("fingerprint", *index)):
            raise InvalidField(
                f"The second index would be as the present one of {request.collection}: name "
                "another embedding_model, or give other values in hnsw.",
                field="embedding_model",
                metadata={"collection": request.collection},
            )
        return spec


async def _message(tx: Tx, collection_id: str, row: Migration) -> migration_pb2.Migration:
    pair = await kept.indexes_of(tx, row)
    if pair is None:
        raise rows.collection_not_found(collection_id)
    points, left = await kept.count_points(tx, row)
    new = pair.source if row.flipped else pair.target
    state = _State.STATE_READY if row.ready else _State.STATE_BUILDING
    return migration_pb2.Migration(
        collection=names.collection_name(collection_id),
        state=_State.STATE_FLIPPED if row.flipped else state,
        problem=row.problem,
        embedding_model=new.embedding_model,
        fingerprint=new.fingerprint,
        dimensions=new.dimensions,
        hnsw=collection_pb2.HnswSettings(
            m=new.hnsw_m, ef_construction=new.hnsw_ef_construction, ef_search=new.hnsw_ef_search
        ),
        points=points,
        points_left=left,
        watermark=str(row.mirrored_seq),
        queries=row.queries,
        overlap=row.overlap,
        recall_before=row.recall_before,
        recall_after=row.recall_after,
        create_time=timestamp(row.create_time),
    )
