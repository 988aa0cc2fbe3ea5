"""How a search was done, as the contract says it."""

from __future__ import annotations

from collections.abc import Mapping

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from engine.index.laps import Stage
from engine.index.search import Explain, Mode, Query
from services.retrieval.search.running import Answered

LEGS: Mapping[Mode, search_pb2.SearchLeg.ValueType] = {
    Mode.DENSE: search_pb2.SEARCH_LEG_DENSE,
    Mode.LEXICAL: search_pb2.SEARCH_LEG_LEXICAL,
    Mode.SPARSE: search_pb2.SEARCH_LEG_SPARSE,
}
STAGES: Mapping[Stage, search_pb2.SearchStage.ValueType] = {
    Stage.EMBED: search_pb2.SEARCH_STAGE_EMBED,
    Stage.WATERMARK: search_pb2.SEARCH_STAGE_WATERMARK,
    Stage.EXAMPLES: search_pb2.SEARCH_STAGE_EXAMPLES,
    Stage.FILTER: search_pb2.SEARCH_STAGE_FILTER,
    Stage.DENSE: search_pb2.SEARCH_STAGE_DENSE,
    Stage.LEXICAL: search_pb2.SEARCH_STAGE_LEXICAL,
    Stage.SPARSE: search_pb2.SEARCH_STAGE_SPARSE,
    Stage.FUSION: search_pb2.SEARCH_STAGE_FUSION,
    Stage.DECODE: search_pb2.SEARCH_STAGE_DECODE,
    Stage.FORMULA: search_pb2.SEARCH_STAGE_FORMULA,
    Stage.RERANK: search_pb2.SEARCH_STAGE_RERANK,
    Stage.FINISH: search_pb2.SEARCH_STAGE_FINISH,
}


def plan_message(answered: Answered) -> pb.SearchPlan:
    """How a search was done."""
    explain, points = answered.explain, answered.points
    matching = points if explain.matches is None else explain.matches
    legs = [_leg(leg, answered) for leg in explain.legs]
    names = [leg.value if leg is not Mode.DENSE else _strategy(explain) for leg in explain.legs]
    return pb.SearchPlan(
        strategy="+".join(names),
        matching_points=matching,
        selectivity=matching / points if points else 0.0,
        band_selectivity_min=explain.band.share_min,
        visited_points=explain.visited,
        dense_candidates=explain.dense_candidates,
        lexical_candidates=explain.lexical_candidates,
        sparse_candidates=explain.sparse_candidates,
        segments=explain.segments,
        legs=legs,
        stages=[
            search_pb2.SearchStageTiming(
                stage=STAGES[stage], took_ms=answered.spent_s[stage] * 1000
            )
            for stage in Stage
            if stage in answered.spent_s
        ],
    )


def _leg(leg: Mode, answered: Answered) -> search_pb2.SearchLegPlan:
    explain = answered.explain
    message = search_pb2.SearchLegPlan(
        leg=LEGS[leg],
        strategy="postings",
        weight=_weight(leg, explain, answered.query),
        took_ms=answered.spent_s.get(Stage(leg.value), 0.0) * 1000,
    )
    if leg is Mode.LEXICAL:
        message.candidates = explain.lexical_candidates
        message.postings = explain.lexical_postings
    elif leg is Mode.SPARSE:
        message.candidates = explain.sparse_candidates
        message.postings = explain.sparse_postings
    else:
        message.strategy = _strategy(explain)
        message.candidates = explain.dense_candidates
        message.visited_points = explain.visited
        message.walked_segments = explain.walked
        message.scanned_segments = explain.scanned
        message.abandoned_walks = explain.widened
        message.ef_search = explain.ef
    return message


def _weight(leg: Mode, explain: Explain, query: Query) -> float:
    if explain.mode is not Mode.HYBRID:
        return 1.0
    if leg is Mode.DENSE:
        return query.dense_weight
    return query.lexical_weight if leg is Mode.LEXICAL else query.sparse_weight


def _strategy(explain: Explain) -> str:
    """Of the dense leg."""
    ways = []
    if explain.walked:
        ways.append("hnsw")
    if explain.scanned or not explain.walked:
        ways.append("exact" if explain.matches is None else "filtered_exact")
    return "+".join(ways)
