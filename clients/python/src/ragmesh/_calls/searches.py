"""Calls of the retrieval service that search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from ragmesh import _rpcs as rpcs
from ragmesh._convert import searches as convert
from ragmesh._filters import Filter
from ragmesh._names import collection as collection_name
from ragmesh._plan import Plan, send
from ragmesh._session import Lane, Session
from ragmesh._split import send_halving, split
from ragmesh._types import search as types
from ragmesh._vectors import SparseVectorLike, VectorLike
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

SEARCHES_MAX = 256


def search_collection(
    session: Session,
    collection: str,
    text: str | None = None,
    *,
    vector: VectorLike | None = None,
    point_id: str | None = None,
    examples: types.Examples | None = None,
    mode: types.SearchMode | Literal[""] = "",
    filter: Filter | None = None,
    limit: int = 0,
    fusion: types.RankFusion | None = None,
    score_threshold: float | None = None,
    boosts: Sequence[types.Boost] = (),
    decays: Sequence[types.NumberDecay | types.TimeDecay] = (),
    rerank: types.Rerank | None = None,
    diversity: types.Diversity | None = None,
    group: types.Grouping | None = None,
    ef_search: int = 0,
    exact: bool = False,
    include_vectors: bool = False,
    include_sentences: bool = False,
    ids_only: bool = False,
    explain: bool = False,
    fingerprint: str = "",
    sparse_vector: SparseVectorLike | None = None,
    include_parents: bool = False,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[types.SearchResult]:
    """Finds the points that match a text, a vector, another point or examples best.

    Give exactly one of `text` (1 to 10,000 characters), `vector`, `point_id` and `examples`, and a
    `sparse_vector` beside it or alone. By default all that is given counts in the `mode`, a text by
    meaning and by words. `limit` is 0 for 10, at most 1,000; with `group` it counts groups. Scores
    are fused, moved by `boosts` (at most 16) and `decays` (8), cut at `score_threshold`, reranked,
    made diverse and grouped, in this order; `include_parents` brings the larger passages around
    small ones. It sees what this client wrote, unless `min_watermark` says otherwise. Raises
    CollectionNotFound, PointNotFound, DimensionMismatch, NoEmbeddingModel and errors of arguments.
    """
    name = collection_name(collection)
    asked = types.Search(
        text=text,
        vector=vector,
        point_id=point_id,
        examples=examples,
        mode=mode,
        filter=filter,
        limit=limit,
        fusion=fusion,
        score_threshold=score_threshold,
        boosts=tuple(boosts),
        decays=tuple(decays),
        rerank=rerank,
        diversity=diversity,
        group=group,
        ef_search=ef_search,
        exact=exact,
        include_vectors=include_vectors,
        include_sentences=include_sentences,
        ids_only=ids_only,
        explain=explain,
        fingerprint=fingerprint,
        sparse_vector=sparse_vector,
        include_parents=include_parents,
    )
    request = convert.to_search(asked, name, session.min_watermark(name, min_watermark))
    sent = send(session, rpcs.SEARCH_COLLECTION, request, timeout_s=timeout_s, lane=lane)
    return convert.search_result((yield from sent))


def batch_search_collection(
    session: Session,
    collection: str,
    searches: Iterable[types.Search],
    *,
    min_watermark: str | None = None,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[list[types.SearchResult]]:
    """Does several searches of one collection; a result for each, in their order.

    Those of one request see one state of the collection, and their texts are embedded together:
    several times as many searches a second as one by one. More than 256, or answers over 16 MiB,
    go in several requests. One search that is wrong fails the call, and the error's field names it.
    """
    name = collection_name(collection)
    base = pb.BatchSearchCollectionRequest(
        collection=name, min_watermark=session.min_watermark(name, min_watermark)
    )

    def request(part: Sequence[pb.SearchCollectionRequest]) -> pb.BatchSearchCollectionRequest:
        return pb.BatchSearchCollectionRequest(
            collection=name, searches=part, min_watermark=base.min_watermark
        )

    found: list[types.SearchResult] = []
    messages = map(convert.to_search, searches)
    for part in split(
        messages, base, items_max=SEARCHES_MAX, size=pb.SearchCollectionRequest.ByteSize
    ):
        responses = yield from send_halving(
            session, rpcs.BATCH_SEARCH_COLLECTION, part, request, timeout_s=timeout_s, lane=lane
        )
        found += [convert.search_result(one) for batch in responses for one in batch.responses]
    return found
