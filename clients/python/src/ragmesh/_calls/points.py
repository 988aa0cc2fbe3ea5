"""Calls of the retrieval service about points."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ragmesh import _rpcs as rpcs
from ragmesh._convert import retrieval as convert
from ragmesh._errors import RagmeshError
from ragmesh._filters import Filter, to_message
from ragmesh._names import collection as collection_name
from ragmesh._names import refuse
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Lane, Session, part_id
from ragmesh._split import checked_texts, send_halving, split, text_bytes
from ragmesh._types import retrieval as types
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

POINTS_MAX = 1_000
# Room for a request_id, which is not there yet when a batch is cut.
_ID_ROOM = "0" * 64


def upsert_points(
    session: Session,
    collection: str,
    points: Iterable[types.Point],
    *,
    wait: bool = False,
    fingerprint: str = "",
    request_id: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.UpsertResult]:
    """Writes points; each replaces the one with its id. Durable on return.

    More than 1,000 points, or 16 MiB, go in several requests, taken from `points` as they are
    sent. Each request is written whole or not at all; if one fails, those before it stay (a note
    on the error says how many). `wait` returns only when searches on every live node find them, or
    `lagging_nodes` says on which they do not. `request_id` is a UUID; a call repeated with it
    writes nothing twice. Raises CollectionNotFound, DimensionMismatch, FingerprintMismatch,
    InvalidVector or RequestIdReused.
    """
    name = collection_name(collection)
    base = pb.UpsertPointsRequest(
        collection=name, wait=wait, request_id=_ID_ROOM, fingerprint=fingerprint
    )
    parts = split(
        map(convert.to_point, points), base, items_max=POINTS_MAX, size=point_pb2.Point.ByteSize
    )
    watermark, upserted, requests = "", 0, 0
    lagging: tuple[str, ...] = ()
    try:
        for index, part in enumerate(parts):
            request = pb.UpsertPointsRequest(
                collection=name,
                points=part,
                wait=wait,
                request_id=part_id(request_id, index),
                fingerprint=fingerprint,
            )
            response = yield from send(
                session, rpcs.UPSERT_POINTS, request, timeout_s=timeout_s, lane=lane
            )
            session.remember(name, response.watermark)
            watermark, lagging = response.watermark, tuple(response.lagging_nodes)
            upserted, requests = upserted + response.upserted, requests + 1
    except RagmeshError as error:
        if requests:
            error.add_note(f"Written before: {upserted} points in {requests} requests.")
        raise
    return types.UpsertResult(watermark, upserted, requests, lagging)


def delete_points(
    session: Session,
    collection: str,
    ids: Iterable[str] | None = None,
    *,
    filter: Filter | None = None,
    wait: bool = False,
    request_id: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.DeleteResult]:
    """Deletes points by id or by filter; give exactly one. Ids that do not exist are passed over.

    More than 1,000 ids go in several requests, each done whole or not at all.
    """
    if (ids is None) == (filter is None):
        raise refuse("ids", "and `filter` exclude each other: give exactly one of them.")
    name = collection_name(collection)
    base = pb.DeletePointsRequest(
        collection=name, filter=to_message(filter), wait=wait, request_id=_ID_ROOM
    )
    listed = [] if ids is None else checked_texts(ids, "ids")
    watermark, resolved, deleted, requests = "", "", 0, 0
    lagging: tuple[str, ...] = ()
    try:
        parts = split(listed, base, items_max=POINTS_MAX, size=text_bytes)
        for index, part in enumerate(parts):
            request = pb.DeletePointsRequest(
                collection=name,
                ids=part,
                filter=to_message(filter),
                wait=wait,
                request_id=part_id(request_id, index),
            )
            response = yield from send(
                session, rpcs.DELETE_POINTS, request, timeout_s=timeout_s, lane=lane
            )
            session.remember(name, response.watermark)
            watermark, resolved = response.watermark, response.filter_watermark
            lagging = tuple(response.lagging_nodes)
            deleted, requests = deleted + response.deleted, requests + 1
    except RagmeshError as error:
        if requests:
            error.add_note(f"Deleted before: {deleted} points in {requests} requests.")
        raise
    return types.DeleteResult(watermark, deleted, requests, resolved, lagging)


def get_points(
    session: Session,
    collection: str,
    ids: Iterable[str],
    *,
    include_vectors: bool = False,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
) -> Plan[list[types.Point]]:
    """Returns points by id, in the order asked; ids that do not exist are left out.

    More than 1,000 ids, or answers over 16 MiB, go in several requests.
    """
    name = collection_name(collection)

    def request(part: Sequence[str]) -> pb.GetPointsRequest:
        return pb.GetPointsRequest(
            collection=name,
            ids=part,
            include_vectors=include_vectors,
            min_watermark=session.min_watermark(name, min_watermark),
        )

    found: list[types.Point] = []
    listed = checked_texts(ids, "ids")
    for part in split(listed, request([]), items_max=POINTS_MAX, size=text_bytes):
        responses = yield from send_halving(
            session, rpcs.GET_POINTS, part, request, timeout_s=timeout_s
        )
        found += [convert.point(point) for response in responses for point in response.points]
    return found


def list_points(
    session: Session,
    collection: str,
    *,
    filter: Filter | None = None,
    include_vectors: bool = False,
    page_size: int = 0,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
) -> Pages[types.Point]:
    """Lists points by id, those that a filter lets through if there is one."""
    name = collection_name(collection)
    return paged(
        session,
        rpcs.LIST_POINTS,
        pb.ListPointsRequest(
            collection=name,
            filter=to_message(filter),
            page_size=page_size,
            include_vectors=include_vectors,
            min_watermark=session.min_watermark(name, min_watermark),
        ),
        lambda response: map(convert.point, response.points),
        timeout_s=timeout_s,
    )


def count_points(
    session: Session,
    collection: str,
    *,
    filter: Filter | None = None,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
) -> Plan[types.PointCount]:
    """Counts points exactly, those that a filter lets through if there is one."""
    name = collection_name(collection)
    request = pb.CountPointsRequest(
        collection=name,
        filter=to_message(filter),
        min_watermark=session.min_watermark(name, min_watermark),
    )
    response = yield from send(session, rpcs.COUNT_POINTS, request, timeout_s=timeout_s)
    return types.PointCount(response.count, response.watermark)
