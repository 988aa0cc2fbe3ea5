"""Handlers of compaction and snapshots: check, call, translate, answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, replace

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from services.retrieval import convert
from services.retrieval.index.compaction import Figures
from services.retrieval.servicer.base import Handlers
from services.retrieval.servicer.collections import first_seq
from services.retrieval.stale import renewed
from services.rpc import fields, names, paging
from services.rpc.call import Call
from services.store import collections as rows
from services.store import snapshots as kept
from services.store.once import once
from services.store.snapshots import Snapshot
from services.store.store import Tx

QUERIES_DEFAULT = 64


class SnapshotHandlers(Handlers):
    """Gives memory back, and keeps and brings back collections."""

    @renewed("collection")
    async def CompactCollection(
        self, request: pb.CompactCollectionRequest, call: Call
    ) -> pb.CompactCollectionResponse:
        """Compacts a collection."""
        collection = await self._collection(request.collection, call)
        await self._indexes.view(collection, fields.watermark(call.min_watermark), call)
        receipt = await self._index.compactor.compact(
            collection, full=request.full, queries=request.queries or QUERIES_DEFAULT, call=call
        )
        return pb.CompactCollectionResponse(
            before=_figures(receipt.before),
            after=_figures(receipt.after),
            points=receipt.points,
            tombstones_removed=receipt.tombstones_removed,
            rolled_back=bool(receipt.rolled_back),
            reason=receipt.rolled_back,
            queries=receipt.recall.queries,
            recall_before=receipt.recall.recall_before,
            recall_after=receipt.recall.recall_after,
            compact_ms=receipt.duration_s * 1_000,
            watermark=str(receipt.watermark),
        )

    @renewed("parent")
    async def CreateSnapshot(
        self, request: pb.CreateSnapshotRequest, call: Call
    ) -> pb.CreateSnapshotResponse:
        """Keeps a collection as it is."""
        collection = await self._collection(request.parent, call, "parent")

        async def record(
            add: Callable[[Tx, str], Awaitable[Snapshot]],
        ) -> pb.CreateSnapshotResponse:
            async def work(tx: Tx) -> pb.CreateSnapshotResponse:
                row = await add(tx, request.snapshot_id or names.new_id())
                return pb.CreateSnapshotResponse(
                    snapshot=convert.snapshot_message(row, collection.id)
                )

            return await once(
                self._store,
                call.tenant,
                request.request_id,
                request,
                pb.CreateSnapshotResponse,
                work,
                timeout_s=call.remaining_s(),
            )

        return await self._index.snapshots.create(collection, call, record)

    async def GetSnapshot(
        self, request: pb.GetSnapshotRequest, call: Call
    ) -> pb.GetSnapshotResponse:
        """Returns one snapshot."""
        collection_id, snapshot_id = names.snapshot_ids(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await rows.get_collection(tx, collection_id)
            row = await kept.get_snapshot(tx, collection, snapshot_id)
        return pb.GetSnapshotResponse(snapshot=convert.snapshot_message(row, collection_id))

    async def ListSnapshots(
        self, request: pb.ListSnapshotsRequest, call: Call
    ) -> pb.ListSnapshotsResponse:
        """Lists a collection's snapshots by name."""
        size = paging.page_size(request.page_size)
        collection_id = names.collection_id(request.parent, "parent")
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await rows.get_collection(tx, collection_id)
            listing = f"snapshots/{collection.home_uid}"
            after = paging.read_token(listing, request.page_token) or ""
            found = await kept.list_snapshots(tx, collection, after=after, limit=size + 1)
        response = pb.ListSnapshotsResponse(
            snapshots=[convert.snapshot_message(row, collection_id) for row in found[:size]]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token(listing, found[size - 1].id)
        return response

    async def DeleteSnapshot(
        self, request: pb.DeleteSnapshotRequest, call: Call
    ) -> pb.DeleteSnapshotResponse:
        """Deletes a snapshot."""
        collection_id, snapshot_id = names.snapshot_ids(request.name)
        async with self._store.transaction(call.tenant, timeout_s=call.remaining_s()) as tx:
            collection = await rows.get_collection(tx, collection_id)
            await kept.delete_snapshot(tx, collection, snapshot_id)
        return pb.DeleteSnapshotResponse()

    async def RestoreSnapshot(
        self, request: pb.RestoreSnapshotRequest, call: Call
    ) -> pb.RestoreSnapshotResponse:
        """Makes a collection of a snapshot."""

        async def work() -> pb.RestoreSnapshotResponse:
            return await self._restored(request, call.tenant)

        key = (call.tenant, request.SerializeToString(deterministic=True))
        response = await self._index.snapshots.joined(key, work, call)
        self._indexes.nudge()
        return response

    async def _restored(
        self, request: pb.RestoreSnapshotRequest, tenant: str
    ) -> pb.RestoreSnapshotResponse:
        collection_id, snapshot_id = names.snapshot_ids(request.name)
        async with self._store.transaction(tenant) as tx:
            source = await rows.get_collection(tx, collection_id)
            snapshot = await kept.get_snapshot(tx, source, snapshot_id)
        spec = snapshot.spec
        if request.HasField("limits"):
            spec = replace(spec, **asdict(convert.limits(request.limits)))
        async with self._index.snapshots.opened(source, snapshot) as opened:

            async def write(tx: Tx) -> pb.RestoreSnapshotResponse:
                # Here, so that what was restored before under its request_id is answered as before.
                self._limiter.brought(spec, snapshot.points, opened.size_bytes, opened.memory_bytes)
                target = request.collection_id or names.new_id()
                seq = await self._index.snapshots.restore(tx, opened, target, first_seq(), spec)
                row = await rows.get_collection(tx, target)
                return pb.RestoreSnapshotResponse(
                    collection=convert.collection_message(row),
                    points=snapshot.points,
                    watermark=str(seq),
                )

            return await once(
                self._store,
                tenant,
                request.request_id,
                request,
                pb.RestoreSnapshotResponse,
                write,
                timeout_s=None,
            )


def _figures(found: Figures) -> pb.IndexFootprint:
    return pb.IndexFootprint(
        segments=found.segments,
        disk_kib=found.disk_bytes >> 10,
        index_kib=found.index_bytes >> 10,
        resident_kib=found.resident_bytes >> 10,
    )
