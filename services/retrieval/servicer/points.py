"""Handlers of points: check, call, translate, answer."""

from __future__ import annotations

import asyncio

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.index import view as views
from services.retrieval import convert
from services.retrieval.servicer.base import Handlers
from services.retrieval.stale import renewed
from services.rpc import fields, paging
from services.rpc.call import Call
from services.rpc.values import payload_value, vector_value
from services.store.collections import Collection
from services.store.once import once
from services.store.points import Commit, PointRow, apply_batch
from services.store.store import Tx

DELETE_BY_FILTER_MAX = 100_000
"""Points that one DeletePoints with a filter removes; more need several calls."""


class PointHandlers(Handlers):
    """Writes, deletes and reads points."""

    @renewed("collection")
    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest, call: Call
    ) -> pb.UpsertPointsResponse:
        """Writes points."""
        collection = await self._collection(request.collection, call)
        given = [
            PointRow(
                id=point.id,
                vector=(
                    vector_value(point.vector, f"points[{index}].vector")
                    if point.HasField("vector")
                    else None
                ),
                text=point.text,
                payload=payload_value(point.payload),
            )
            for index, point in enumerate(request.points)
        ]
        batch = await self._core.complete(collection, given, request.fingerprint, call)

        async def work(tx: Tx) -> pb.UpsertPointsResponse:
            commit = await apply_batch(tx, collection, batch)
            return pb.UpsertPointsResponse(watermark=str(commit.seq), upserted=commit.upserted)

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.UpsertPointsResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        seq = int(response.watermark)
        response.lagging_nodes.extend(await self._after_write(collection, seq, request.wait, call))
        return response

    @renewed("collection")
    async def DeletePoints(
        self, request: pb.DeletePointsRequest, call: Call
    ) -> pb.DeletePointsResponse:
        """Deletes points."""
        collection = await self._collection(request.collection, call)
        ids, unchanged_since = list(request.ids), None
        if request.HasField("filter"):
            ids, unchanged_since = await self._core.matching_ids(
                collection,
                convert.filter_value(request.filter),
                fields.watermark(call.min_watermark),
                call,
                DELETE_BY_FILTER_MAX,
            )

        async def work(tx: Tx) -> pb.DeletePointsResponse:
            commit: Commit = await apply_batch(
                tx, collection, deletes=ids, unchanged_since=unchanged_since
            )
            return pb.DeletePointsResponse(
                watermark=str(commit.seq),
                deleted=commit.deleted,
                filter_watermark="" if unchanged_since is None else str(unchanged_since),
            )

        response = await once(
            self._store,
            call.tenant,
            request.request_id,
            request,
            pb.DeletePointsResponse,
            work,
            timeout_s=call.remaining_s(),
        )
        seq = int(response.watermark)
        response.lagging_nodes.extend(await self._after_write(collection, seq, request.wait, call))
        return response

    @renewed("collection")
    async def GetPoints(self, request: pb.GetPointsRequest, call: Call) -> pb.GetPointsResponse:
        """Returns points by id."""
        collection, view = await self._view(request.collection, request.min_watermark, call)
        found = views.get(view, request.ids, with_vectors=request.include_vectors)
        return pb.GetPointsResponse(
            points=[
                convert.point_message(p, collection.id, vectors=request.include_vectors)
                for p in found
            ],
            watermark=str(view.watermark),
        )

    @renewed("collection")
    async def ListPoints(self, request: pb.ListPointsRequest, call: Call) -> pb.ListPointsResponse:
        """Lists points by id."""
        collection, view = await self._view(request.collection, request.min_watermark, call)
        size = paging.page_size(request.page_size)
        filter_key = request.filter.SerializeToString(deterministic=True).hex()
        listing = f"points/{collection.uid}/{filter_key}"
        after = paging.read_token(listing, request.page_token) or ""
        condition = convert.filter_value(request.filter) if request.HasField("filter") else None
        found = await asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: views.list_points(
                view,
                after_id=after,
                limit=size + 1,
                filter=condition,
                with_vectors=request.include_vectors,
            ),
        )
        response = pb.ListPointsResponse(
            points=[
                convert.point_message(p, collection.id, vectors=request.include_vectors)
                for p in found[:size]
            ]
        )
        if len(found) > size:
            response.next_page_token = paging.write_token(listing, found[size - 1].id)
        return response

    @renewed("collection")
    async def CountPoints(
        self, request: pb.CountPointsRequest, call: Call
    ) -> pb.CountPointsResponse:
        """Counts points."""
        _, view = await self._view(request.collection, request.min_watermark, call)
        condition = convert.filter_value(request.filter) if request.HasField("filter") else None
        number = await asyncio.get_running_loop().run_in_executor(
            self._threads, views.count, view, condition
        )
        return pb.CountPointsResponse(count=number, watermark=str(view.watermark))

    async def _after_write(
        self, collection: Collection, seq: int, wait: bool, call: Call
    ) -> list[str]:
        """Waits, if asked to, until every node has the write; which have not."""
        self._indexes.nudge(collection)
        if not wait:
            return []
        await self._indexes.view(collection, seq, call)
        return await self._indexes.lagging(collection, seq, call)
