"""From the contract's searches to the engine's; what is not said is filled in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, TypeAlias

from google.protobuf import duration_pb2, timestamp_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from engine.errors import FailedPrecondition, InvalidArgument, NotFound
from engine.index import formula, reranking
from engine.index.beams import OWN_BEAMS, Beams
from engine.index.examples import Strategy
from engine.index.formula import Boost, Decay, DecayKind, Formula
from engine.index.fusion import RRF_K_DEFAULT, FusionMethod
from engine.index.grouping import Grouping
from engine.index.search import Mode, Query
from engine.index.stages import Diversity, Staged
from engine.types import TokenVectors, Vector
from services.retrieval.filter_values import filter_value
from services.rpc.values import sparse_vector_value, vector_value

LIMIT_DEFAULT = 10
MODEL_CANDIDATES_DEFAULT = 20

Example: TypeAlias = str | Vector
"""The id of a point, or a vector."""

MODES: Mapping[int, Mode | None] = {
    pb.SEARCH_MODE_UNSPECIFIED: None,
    pb.SEARCH_MODE_DENSE: Mode.DENSE,
    pb.SEARCH_MODE_LEXICAL: Mode.LEXICAL,
    pb.SEARCH_MODE_HYBRID: Mode.HYBRID,
    pb.SEARCH_MODE_SPARSE: Mode.SPARSE,
}
DECAY_KINDS: Mapping[int, DecayKind] = {
    search_pb2.DECAY_KIND_UNSPECIFIED: DecayKind.EXPONENTIAL,
    search_pb2.DECAY_KIND_EXPONENTIAL: DecayKind.EXPONENTIAL,
    search_pb2.DECAY_KIND_GAUSSIAN: DecayKind.GAUSSIAN,
    search_pb2.DECAY_KIND_LINEAR: DecayKind.LINEAR,
}


class RerankBy(StrEnum):
    """What looks at the best again."""

    NOTHING = "nothing"
    DEFAULT = "default"
    SENTENCES = "sentences"
    TOKENS = "tokens"
    MODEL = "model"


_CANDIDATES = {
    RerankBy.SENTENCES: reranking.CANDIDATES_DEFAULT,
    RerankBy.TOKENS: reranking.TOKEN_CANDIDATES_DEFAULT,
    RerankBy.MODEL: MODEL_CANDIDATES_DEFAULT,
}


class Search(NamedTuple):
    """A search as asked: exactly one of `staged.query.vector`, `text`, `point_id` and `positive`
    is set, or none where there is a `staged.query.sparse`.

    With its mode decided, `embeds` says whether `text` is searched by vector. `explain` has the
    time of its stages taken. `rerank_model` is for `RerankBy.MODEL`, `tokens` of the text for
    `RerankBy.TOKENS`; `RerankBy.DEFAULT` is for `settled`."""

    staged: Staged
    text: str = ""
    point_id: str = ""
    positive: tuple[Example, ...] = ()
    negative: tuple[Example, ...] = ()
    strategy: Strategy = Strategy.AVERAGE
    rerank: RerankBy = RerankBy.NOTHING
    rerank_model: str = ""
    fingerprint: str = ""
    tokens: TokenVectors | None = None
    embeds: bool = False
    explain: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether the view's own search of `staged.query` answers it."""
        return self.staged.is_plain and not self.point_id and not self.positive


def settled(asked: Search, rerank_model: str, token_store: bool) -> Search:
    """The search with its default reranking decided. With a text to rerank by it is the
    collection's model, if it names one, or its tokens, if it keeps them; else its sentences."""
    if asked.rerank is not RerankBy.DEFAULT:
        return asked
    by = RerankBy.SENTENCES
    if asked.text and (rerank_model or token_store):
        by = RerankBy.MODEL if rerank_model else RerankBy.TOKENS
    return asked._replace(
        staged=replace(asked.staged, rerank=asked.staged.rerank or _CANDIDATES[by]),
        rerank=by,
        rerank_model=rerank_model if by is RerankBy.MODEL else "",
    )


def with_query(asked: Search, **changes: object) -> Search:
    """The search with fields of its query changed."""
    query: Query = replace(asked.staged.query, **changes)  # type: ignore[arg-type]
    return asked._replace(staged=replace(asked.staged, query=query))


@contextmanager
def located(path: str) -> Iterator[None]:
    """Puts `path` before the field of what is refused inside."""
    try:
        yield
    except (InvalidArgument, NotFound, FailedPrecondition) as error:
        error.field = f"{path}.{error.field}" if error.field else path
        error.message = f"{path}: {error.message}"
        raise


@lru_cache(maxsize=256)
def beams_value(efs: tuple[int, ...]) -> Beams:
    """The beams of a collection; kept, because each of its searches has them."""
    return Beams(efs)


def search_value(request: pb.SearchCollectionRequest, beams: Beams = OWN_BEAMS) -> Search:
    """A search, by the beams of its collection. Raises InvalidFilter, InvalidVector or
    InvalidField."""
    # Looking at a message that is not there makes one, and most are not: what is rare is read where
    # it is given, and else left as the values have it.
    given = request.WhichOneof("query")
    by_text = given == "text"
    vector = vector_value(request.vector, "vector") if given == "vector" else None
    sparse = None
    if request.HasField("sparse_vector"):
        sparse = sparse_vector_value(request.sparse_vector, "sparse_vector")
    has_stages = _has_stages(request)
    query = Query(
        vector=vector,
        sparse=sparse,
        filter=filter_value(request.filter) if request.HasField("filter") else None,
        limit=request.limit or LIMIT_DEFAULT,
        mode=MODES[request.mode] if by_text else _mode(request, given, sparse is not None),
        ef=request.ef_search or None,
        beams=beams,
        exact=request.exact,
        score_threshold=request.score_threshold if request.HasField("score_threshold") else None,
        with_vectors=request.include_vectors,
        ids_only=request.ids_only and not has_stages,
    )
    if request.HasField("fusion"):
        query = _fused(query, request.fusion)
    rerank, staged = RerankBy.NOTHING, Staged(query)
    if has_stages:
        rerank, staged = _staged(request, query)
    asked = Search(
        staged,
        text=request.text if by_text else "",
        point_id=request.point_id if given == "point_id" else "",
        rerank=rerank,
        rerank_model=request.rerank.model if rerank is RerankBy.MODEL else "",
        fingerprint=request.fingerprint,
        explain=request.explain,
    )
    return _by_examples(asked, request.examples) if given == "examples" else asked


def _has_stages(request: pb.SearchCollectionRequest) -> bool:
    """Whether something looks at the hits after they are found."""
    return (
        request.HasField("rerank")
        or request.HasField("diversity")
        or request.HasField("group")
        or bool(request.boosts or request.decays)
    )


def _fused(query: Query, fusion: pb.RankFusion) -> Query:
    by_score = fusion.method == search_pb2.FUSION_METHOD_SCORE
    return replace(
        query,
        candidates=fusion.candidates or None,
        rrf_k=fusion.k or RRF_K_DEFAULT,
        dense_weight=fusion.dense_weight if fusion.HasField("dense_weight") else 1.0,
        lexical_weight=fusion.lexical_weight if fusion.HasField("lexical_weight") else 1.0,
        sparse_weight=fusion.sparse_weight if fusion.HasField("sparse_weight") else 1.0,
        fusion=FusionMethod.SCORE if by_score else FusionMethod.RANK,
    )


def _staged(request: pb.SearchCollectionRequest, query: Query) -> tuple[RerankBy, Staged]:
    """The query with its stages, and what reranks it."""
    rerank, count = _rerank(request)
    return rerank, Staged(
        query,
        formula=_formula(request.boosts, request.decays),
        rerank=count,
        diversity=_diversity(request.diversity) if request.HasField("diversity") else None,
        grouping=_grouping(request.group) if request.HasField("group") else None,
    )


def _by_examples(asked: Search, shown: search_pb2.Examples) -> Search:
    best = shown.strategy == search_pb2.EXAMPLE_STRATEGY_BEST_SCORE
    return asked._replace(
        positive=_examples(shown.positive, "examples.positive"),
        negative=_examples(shown.negative, "examples.negative"),
        strategy=Strategy.BEST_SCORE if best else Strategy.AVERAGE,
    )


def _mode(request: pb.SearchCollectionRequest, given: str | None, sparse: bool) -> Mode:
    """Of a search without a text."""
    if given is None or request.mode == pb.SEARCH_MODE_SPARSE:
        return Mode.SPARSE
    return Mode.HYBRID if sparse else Mode.DENSE


def _rerank(request: pb.SearchCollectionRequest) -> tuple[RerankBy, int]:
    """By what, and how many candidates."""
    if not request.HasField("rerank"):
        return RerankBy.NOTHING, 0
    rerank = request.rerank
    if rerank.method == search_pb2.RERANK_METHOD_NONE:
        return RerankBy.NOTHING, 0
    if rerank.method == search_pb2.RERANK_METHOD_SENTENCES:
        by = RerankBy.SENTENCES
    elif rerank.method == search_pb2.RERANK_METHOD_TOKENS:
        by = RerankBy.TOKENS
    elif rerank.method == search_pb2.RERANK_METHOD_MODEL or rerank.model:
        by = RerankBy.MODEL
    else:
        return RerankBy.DEFAULT, rerank.candidates
    return by, rerank.candidates or _CANDIDATES[by]


def _formula(
    boosts: Sequence[search_pb2.Boost], decays: Sequence[search_pb2.Decay]
) -> Formula | None:
    if not boosts and not decays:
        return None
    found = []
    for index, boost in enumerate(boosts):
        with located(f"boosts[{index}]"):
            found.append(
                Boost(
                    filter_value(boost.filter),
                    boost.factor if boost.HasField("factor") else 1.0,
                    boost.addend,
                )
            )
    made = Formula(tuple(found), tuple(map(_decay, decays)))
    formula.check(made)
    return made


def _decay(message: search_pb2.Decay) -> Decay:
    over_time = message.WhichOneof("origin") == "time"
    origin: float | None
    if over_time:
        time = message.time
        origin = _seconds(time.origin) if time.HasField("origin") else None
        scale = _seconds(time.scale)
    else:
        origin, scale = message.number.origin, message.number.scale
    return Decay(
        field=message.field,
        kind=DECAY_KINDS[message.kind],
        scale=scale,
        origin=origin,
        over_time=over_time,
        midpoint=message.midpoint if message.HasField("midpoint") else 0.5,
        missing=message.missing if message.HasField("missing") else None,
    )


def _seconds(message: timestamp_pb2.Timestamp | duration_pb2.Duration) -> float:
    return float(message.seconds) + message.nanos / 1e9


def _diversity(message: search_pb2.Diversity) -> Diversity:
    weight = message.relevance_weight if message.HasField("relevance_weight") else 0.5
    return Diversity(weight, message.candidates or None)


def _grouping(message: search_pb2.Grouping) -> Grouping:
    return Grouping(message.field or None, message.hits_per_group or 1)


def _examples(messages: Sequence[search_pb2.Example], field: str) -> tuple[Example, ...]:
    return tuple(
        message.point_id
        if message.WhichOneof("example") == "point_id"
        else vector_value(message.vector, f"{field}[{index}].vector")
        for index, message in enumerate(messages)
    )
