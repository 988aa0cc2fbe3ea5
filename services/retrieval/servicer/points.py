"""Handlers of points: check, call, translate, answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.index import view as views
from engine.index.filters import Filter
from services.retrieval import convert
from services.retrieval.index.own_writes import own_write
from services.retrieval.reading import UpsertRead
from services.retrieval.search.searching import check_fingerprint
from services.retrieval.servicer.base import Handlers
from services.retrieval.stale import renewed
from services.retrieval.writing import Write, plain_write, write_of
from services.rpc import fields, paging
from services.rpc.call import Call
from services.rpc.values import payload_value, sparse_vector_value, vector_value
from services.store.collections import Collection
from services.store.once import once
from services.store.points import Commit, PointRow, apply_batch
from services.store.store import Tx

Value = TypeVar("Value")

DELETE_BY_FILTER_MAX = 100_000
"""Points that one DeletePoints with a filter removes; more need several calls."""


class PointHandlers(Handlers):
    """Writes, deletes and reads points."""

    @renewed("collection")
    async def UpsertPoints(
        self, request: pb.UpsertPointsRequest | UpsertRead, call: Call
    ) -> pb.UpsertPointsResponse:
        """Writes points."""
        collection = await self._collection(request.collection, call)
        head = request.head if isinstance(request, UpsertRead) else request
        write = await self._write(collection, request, call)
        await self._limiter.ready(collection, call)
        payload = await self._in_thread(_canonical, request) if head.request_id else None
        made: list[Commit] = []

        async def work(tx: Tx) -> pb.UpsertPointsResponse:
            # Here, so that what was written before under its request_id is answered as before.
            self._limiter.room(collection, write.ids, lambda: _size(request))
            commit = await apply_batch(tx, collection, batch=write.batch)
            made[:] = [commit]
            return pb.UpsertPointsResponse(watermark=str(commit.seq), upserted=commit.upserted)

        with self._indexes.writing(collection):
            response = await once(
                self._store,
                call.tenant,
                head.request_id,
                head,
                pb.UpsertPointsResponse,
                work,
                timeout_s=call.remaining_s(),
                payload=payload,
            )
            own = own_write(made[0], write.own, ()) if made else None
            self._indexes.wrote(collection, own)
        seq = int(response.watermark)
        response.lagging_nodes.extend(await self._waited(collection, seq, head.wait, call))
        return response

    async def _write(
        self, collection: Collection, request: pb.UpsertPointsRequest | UpsertRead, call: Call
    ) -> Write:
        """What a request writes: checked, and complete."""
        # In a thread: it takes milliseconds, in which the loop would answer nobody. One at a time:
        # more threads would not be faster, and searches would wait for all of them.
        if isinstance(request, UpsertRead):
            sizes = request.points["payload_sizes"]
            self._limiter.upsert(collection, len(sizes), sizes)
            check_fingerprint(collection, request.head.fingerprint, "fingerprint")
            async with self._preparing:
                write = await self._in_thread(plain_write, collection, request)
                if write is not None:
                    return write
                request = await self._in_thread(request.message)
        else:
            payloads = (point.payload.ByteSize() for point in request.points)
            self._limiter.upsert(collection, len(request.points), payloads)
        async with self._preparing:
            given = await self._in_thread(_rows, request)
        points = await self._core.complete(collection, given, request.fingerprint, call)
        async with self._preparing:
            return await self._in_thread(write_of, collection, points)

    @renewed("collection")
    async def DeletePoints(
        self, request: pb.DeletePointsRequest, call: Call
    ) -> pb.DeletePointsResponse:
        """Deletes points."""
        collection = await self._collection(request.collection, call)
        self._limiter.delete(collection)
        ids, unchanged_since = list(request.ids), None
        condition = self._condition(collection, request)
        if condition is not None:
            ids, unchanged_since = await self._core.matching_ids(
                collection,
                condition,
                fields.watermark(call.min_watermark),
                call,
                DELETE_BY_FILTER_MAX,
            )
        made: list[Commit] = []

        async def work(tx: Tx) -> pb.DeletePointsResponse:
            commit = await apply_batch(tx, collection, deletes=ids, unchanged_since=unchanged_since)
            made[:] = [commit]
            return pb.DeletePointsResponse(
                watermark=str(commit.seq),
                deleted=commit.deleted,
                filter_watermark="" if unchanged_since is None else str(unchanged_since),
            )

        with self._indexes.writing(collection):
            response = await once(
                self._store,
                call.tenant,
                request.request_id,
                request,
                pb.DeletePointsResponse,
                work,
                timeout_s=call.remaining_s(),
            )
            # Which of a filter's points were deleted only the log knows.
            known = made and made[0].deleted and unchanged_since is None
            self._indexes.wrote(collection, own_write(made[0], (), ids) if known else None)
        seq = int(response.watermark)
        response.lagging_nodes.extend(await self._waited(collection, seq, request.wait, call))
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
        listing = f"points/{collection.home_uid}/{filter_key}"
        after = paging.read_token(listing, request.page_token) or ""
        condition = self._condition(collection, request)
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
        collection, view = await self._view(request.collection, request.min_watermark, call)
        condition = self._condition(collection, request)
        number = await asyncio.get_running_loop().run_in_executor(
            self._threads, views.count, view, condition
        )
        return pb.CountPointsResponse(count=number, watermark=str(view.watermark))

    def _condition(
        self,
        collection: Collection,
        request: pb.DeletePointsRequest | pb.ListPointsRequest | pb.CountPointsRequest,
    ) -> Filter | None:
        if not request.HasField("filter"):
            return None
        condition = convert.filter_value(request.filter)
        self._limiter.filter(collection, condition)
        return condition

    async def _waited(self, collection: Collection, seq: int, wait: bool, call: Call) -> list[str]:
        """Waits, if asked to, until every node has the write; which have not."""
        if not wait:
            return []
        await self._indexes.view(collection, seq, call)
        return await self._indexes.lagging(collection, seq, call)

    async def _in_thread(self, function: Callable[..., Value], *given: object) -> Value:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *given)


def _canonical(request: pb.UpsertPointsRequest | UpsertRead) -> bytes:
    if isinstance(request, UpsertRead):
        return request.canonical()
    return request.SerializeToString(deterministic=True)


def _size(request: pb.UpsertPointsRequest | UpsertRead) -> int:
    return len(request.data) if isinstance(request, UpsertRead) else request.ByteSize()


def _rows(request: pb.UpsertPointsRequest) -> list[PointRow]:
    return [
        PointRow(
            id=point.id,
            vector=(
                vector_value(point.vector, f"points[{index}].vector")
                if point.HasField("vector")
                else None
            ),
            text=point.text,
            payload=payload_value(point.payload),
            sparse_vector=(
                sparse_vector_value(point.sparse_vector, f"points[{index}].sparse_vector")
                if point.HasField("sparse_vector")
                else None
            ),
        )
        for index, point in enumerate(request.points)
    ]
