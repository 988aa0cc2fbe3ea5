"""Messages of searches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from google.protobuf import duration_pb2, timestamp_pb2

from ragmesh._convert import embedding as vectors
from ragmesh._convert import retrieval
from ragmesh._filters import to_message
from ragmesh._names import optional, refuse
from ragmesh._types import search as types
from ragmesh._values import from_enum, from_value, to_enum
from ragmesh._vectors import Vector, VectorLike, to_sparse
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2


def to_search(
    value: types.Search, collection: str = "", min_watermark: str = ""
) -> pb.SearchCollectionRequest:
    """A search as the contract says it. Raises InvalidField unless it has exactly one query, or
    none and a sparse vector."""
    queries = (value.text, value.vector, value.point_id, value.examples)
    given = sum(query is not None for query in queries)
    if given > 1 or (not given and value.sparse_vector is None):
        raise refuse(
            "query",
            "is not one thing: give exactly one of text, vector, point_id and examples, or "
            "sparse_vector alone or beside it.",
        )
    request = pb.SearchCollectionRequest(
        collection=collection,
        vector=None if value.vector is None else vectors.to_vector(Vector(value.vector)),
        examples=None if value.examples is None else _examples(value.examples),
        mode=to_enum(pb.SearchMode.DESCRIPTOR, value.mode, "mode"),
        filter=to_message(value.filter),
        limit=value.limit,
        fusion=None if value.fusion is None else _fusion(value.fusion),
        score_threshold=value.score_threshold,
        boosts=[_boost(boost) for boost in value.boosts],
        decays=[_decay(decay) for decay in value.decays],
        rerank=None if value.rerank is None else _rerank(value.rerank),
        diversity=None if value.diversity is None else _diversity(value.diversity),
        group=None if value.group is None else _grouping(value.group),
        ef_search=value.ef_search,
        exact=value.exact,
        include_vectors=value.include_vectors,
        include_sentences=value.include_sentences,
        min_watermark=min_watermark,
        explain=value.explain,
        fingerprint=value.fingerprint,
        ids_only=value.ids_only,
        sparse_vector=vectors.to_sparse_vector(to_sparse(value.sparse_vector)),
        include_parents=value.include_parents,
    )
    if value.text is not None:
        request.text = value.text
    if value.point_id is not None:
        request.point_id = value.point_id
    return request


def search_result(message: pb.SearchCollectionResponse) -> types.SearchResult:
    timings = message.timings
    hits = tuple(map(_hit, message.hits))
    outcomes = search_pb2.RerankOutcome.DESCRIPTOR
    return types.SearchResult(
        hits=hits,
        watermark=message.watermark,
        timings=types.SearchTimings(
            timings.embed_ms, timings.watermark_wait_ms, timings.search_ms, timings.rerank_ms
        ),
        plan=_plan(message.plan) if message.HasField("plan") else None,
        groups=_groups(message.groups, hits),
        rerank_outcome=cast(types.RerankOutcome, from_enum(outcomes, message.rerank_outcome)),
    )


def _fusion(value: types.RankFusion) -> pb.RankFusion:
    return pb.RankFusion(
        k=value.k,
        dense_weight=value.dense_weight,
        lexical_weight=value.lexical_weight,
        sparse_weight=value.sparse_weight,
        method=to_enum(search_pb2.FusionMethod.DESCRIPTOR, value.method, "fusion.method"),
        candidates=value.candidates,
    )


def _examples(value: types.Examples) -> search_pb2.Examples:
    strategies = search_pb2.ExampleStrategy.DESCRIPTOR
    return search_pb2.Examples(
        positive=_each(value.positive, "examples.positive"),
        negative=_each(value.negative, "examples.negative"),
        strategy=to_enum(strategies, value.strategy, "examples.strategy"),
    )


def _each(values: Sequence[str | VectorLike], field: str) -> list[search_pb2.Example]:
    if isinstance(values, str):
        raise refuse(field, "is one string; give a list of ids and vectors.")
    return [
        search_pb2.Example(point_id=one)
        if isinstance(one, str)
        else search_pb2.Example(vector=vectors.to_vector(Vector(one)))
        for one in values
    ]


def _boost(value: types.Boost) -> search_pb2.Boost:
    return search_pb2.Boost(
        filter=to_message(value.filter), factor=value.factor, addend=value.addend
    )


def _decay(value: types.NumberDecay | types.TimeDecay) -> search_pb2.Decay:
    decay = search_pb2.Decay(
        field=value.field,
        kind=to_enum(search_pb2.DecayKind.DESCRIPTOR, value.kind, "decays.kind"),
        midpoint=value.midpoint,
        missing=value.missing,
    )
    if isinstance(value, types.NumberDecay):
        decay.number.origin, decay.number.scale = value.origin, value.scale
        return decay
    scale = duration_pb2.Duration()
    scale.FromTimedelta(value.scale)
    decay.time.scale.CopyFrom(scale)
    if value.origin is not None:
        origin = timestamp_pb2.Timestamp()
        origin.FromDatetime(value.origin)
        decay.time.origin.CopyFrom(origin)
    return decay


def _rerank(value: types.Rerank) -> search_pb2.Rerank:
    return search_pb2.Rerank(
        method=to_enum(search_pb2.RerankMethod.DESCRIPTOR, value.method, "rerank.method"),
        candidates=value.candidates,
        model=optional("embeddingModels", value.model, "rerank.model"),
    )


def _diversity(value: types.Diversity) -> search_pb2.Diversity:
    return search_pb2.Diversity(
        relevance_weight=value.relevance_weight, candidates=value.candidates
    )


def _grouping(value: types.Grouping) -> search_pb2.Grouping:
    return search_pb2.Grouping(field=value.field, hits_per_group=value.hits_per_group)


def _plan(message: pb.SearchPlan) -> types.SearchPlan:
    return types.SearchPlan(
        strategy=message.strategy,
        matching_points=message.matching_points,
        dense_candidates=message.dense_candidates,
        lexical_candidates=message.lexical_candidates,
        segments=message.segments,
        selectivity=message.selectivity,
        visited_points=message.visited_points,
        sparse_candidates=message.sparse_candidates,
        band_selectivity_min=message.band_selectivity_min,
        legs=tuple(map(_leg, message.legs)),
        stages_ms={
            cast(types.SearchStage, from_enum(search_pb2.SearchStage.DESCRIPTOR, one.stage)): (
                one.took_ms
            )
            for one in message.stages
        },
    )


def _leg(message: search_pb2.SearchLegPlan) -> types.SearchLegPlan:
    return types.SearchLegPlan(
        leg=cast(types.SearchLeg, from_enum(search_pb2.SearchLeg.DESCRIPTOR, message.leg)),
        strategy=message.strategy,
        candidates=message.candidates,
        weight=message.weight,
        took_ms=message.took_ms,
        visited_points=message.visited_points,
        walked_segments=message.walked_segments,
        scanned_segments=message.scanned_segments,
        abandoned_walks=message.abandoned_walks,
        ef_search=message.ef_search,
        postings=message.postings,
    )


def _groups(
    messages: Sequence[search_pb2.SearchGroup], hits: tuple[types.SearchHit, ...]
) -> tuple[types.SearchGroup, ...]:
    """Hits come group by group."""
    groups, at = [], 0
    for message in messages:
        groups.append(
            types.SearchGroup(
                key=from_value(message.key),
                document=message.document,
                span=vectors.span(message.span) if message.HasField("span") else None,
                hits=hits[at : at + message.hits],
            )
        )
        at += message.hits
    return tuple(groups)


def _hit(message: pb.SearchHit) -> types.SearchHit:
    return types.SearchHit(
        point=retrieval.point(message.point),
        score=message.score,
        dense_score=message.dense_score if message.HasField("dense_score") else None,
        lexical_score=message.lexical_score if message.HasField("lexical_score") else None,
        rerank_score=message.rerank_score if message.HasField("rerank_score") else None,
        group=message.group if message.HasField("group") else None,
        sparse_score=message.sparse_score if message.HasField("sparse_score") else None,
        parent=_parent(message.parent) if message.HasField("parent") else None,
    )


def _parent(message: pb.ParentPassage) -> types.ParentPassage:
    return types.ParentPassage(
        vectors.span(message.span), message.text, vectors.sentences(message.sentences)
    )
