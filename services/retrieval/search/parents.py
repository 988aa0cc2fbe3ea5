"""The larger passages around the small ones that searches of a hierarchical collection found."""

from __future__ import annotations

from collections.abc import Sequence

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from engine.errors import DeadlineExceeded, Unavailable
from services.rpc.call import Call
from services.rpc.values import sentence_messages
from services.store.collections import Collection
from services.store.parents import Parent, parents_of
from services.store.store import Store

HITS_MAX = 256
"""Hits of a search that get their parents: as many of 2,048 tokens are 3 MB."""

WAIT_S = 2.0
"""How long PostgreSQL may take, and at most half of what is left of the caller's time: hits without
what is around them are better than none."""


async def add(
    store: Store,
    collection: Collection,
    answered: Sequence[tuple[pb.SearchCollectionRequest, pb.SearchCollectionResponse]],
    call: Call,
) -> None:
    """Adds the parents to the hits of those searches that ask for them. Hits stay without where
    the passage was replaced meanwhile, or PostgreSQL does not answer."""
    if collection.chunk_strategy != "hierarchical":
        return
    wanting = [
        (hit, request)
        for request, response in answered
        if request.include_parents and not request.ids_only
        for hit in response.hits[:HITS_MAX]
        if hit.point.document
    ]
    if not wanting:
        return
    remaining_s = call.remaining_s()
    wait_s = WAIT_S if remaining_s is None else min(WAIT_S, remaining_s / 2)
    ids = sorted({hit.point.id for hit, _ in wanting})
    try:
        async with store.transaction(call.tenant, timeout_s=wait_s) as tx:
            parents = await parents_of(tx, collection, ids)
    except (Unavailable, DeadlineExceeded):
        return
    for hit, request in wanting:
        parent = parents.get(hit.point.id)
        if parent is not None and _holds(parent, hit):
            hit.parent.span.start, hit.parent.span.end = parent.span.start, parent.span.end
            hit.parent.text = parent.text
            if request.include_sentences:
                hit.parent.sentences.extend(sentence_messages(parent.sentences))


def _holds(parent: Parent, hit: pb.SearchHit) -> bool:
    """Whether the passage is in it, at its place: the index may be a version behind."""
    start = hit.point.span.start - parent.span.start
    return start >= 0 and parent.text.startswith(hit.point.text, start)
