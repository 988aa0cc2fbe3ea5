"""What makes a search wrong whatever the state."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from engine.errors import InvalidField
from engine.index.examples import EXAMPLES_MAX
from engine.index.formula import BOOSTS_MAX, DECAYS_MAX
from engine.index.grouping import HITS_PER_GROUP_MAX
from services.retrieval.search.asking import located
from services.rpc import fields, names

LIMIT_MAX = 1_000
EF_SEARCH_MAX = 4_096
QUERY_CHARACTERS_MAX = 10_000
POINT_ID_CHARACTERS_MAX = 256
RERANK_CANDIDATES_MAX = 200
SEARCHES_MAX = 256
FIELD_CHARACTERS_MAX = 256


def point_id(value: str, field: str) -> None:
    """The id of a point."""
    fields.characters(value, field, POINT_ID_CHARACTERS_MAX, least=1)
    if not value.isprintable():
        raise InvalidField(
            f"{field} is {value[:40]!r}; an id has no control characters.", field=field
        )


def search(request: pb.SearchCollectionRequest) -> None:
    """A search of its own."""
    names.collection_id(request.collection, "collection")
    _search(request)


def batch(request: pb.BatchSearchCollectionRequest) -> None:
    """Searches of one collection."""
    names.collection_id(request.collection, "collection")
    fields.watermark(request.min_watermark)
    fields.items(request.searches, "searches", SEARCHES_MAX)
    for index, one in enumerate(request.searches):
        with located(f"searches[{index}]"):
            _search(one)
            for field in ("collection", "min_watermark"):
                if getattr(one, field) not in ("", getattr(request, field)):
                    raise InvalidField(
                        f"{field} is another than the batch's. Leave it out.", field=field
                    )
            if _by_model(one.rerank):
                raise InvalidField(
                    "rerank.method is RERANK_METHOD_MODEL, which is for single searches: it runs a "
                    "model for each. Rerank by sentences, or call SearchCollection.",
                    field="rerank.method",
                )


def _search(request: pb.SearchCollectionRequest) -> None:
    fields.number(request.limit, "limit", 0, LIMIT_MAX)
    fields.number(request.ef_search, "ef_search", 0, EF_SEARCH_MAX)
    fields.enum(request, "mode")
    fields.watermark(request.min_watermark)
    _query(request)
    if request.HasField("fusion"):
        _fusion(request.fusion)
    if math.isnan(request.score_threshold):
        raise InvalidField("score_threshold is not a number.", field="score_threshold")
    fields.items(request.boosts, "boosts", BOOSTS_MAX, least=0)
    fields.items(request.decays, "decays", DECAYS_MAX, least=0)
    for index, decay in enumerate(request.decays):
        _decay(decay, f"decays[{index}]")
    if request.HasField("rerank"):
        _rerank(request)
    if request.HasField("diversity"):
        weight = request.diversity
        if weight.HasField("relevance_weight"):
            fields.number(weight.relevance_weight, "diversity.relevance_weight", 0, 1)
        fields.number(weight.candidates, "diversity.candidates", 0, LIMIT_MAX)
    if request.HasField("group"):
        fields.characters(request.group.field, "group.field", FIELD_CHARACTERS_MAX)
        fields.number(request.group.hits_per_group, "group.hits_per_group", 0, HITS_PER_GROUP_MAX)


def _query(request: pb.SearchCollectionRequest) -> None:
    query = request.WhichOneof("query")
    sparse = request.HasField("sparse_vector")
    if sparse and request.mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_LEXICAL):
        raise InvalidField(
            "sparse_vector is for searches by it, and this mode is for another. Leave one of them "
            "out, or search in hybrid mode.",
            field="sparse_vector",
        )
    if request.mode == pb.SEARCH_MODE_SPARSE:
        _sparse(query, sparse)
    if query is None:
        _without_query(request, sparse)
        return
    if query == "text":
        fields.characters(request.text, "text", QUERY_CHARACTERS_MAX, least=1)
        if not request.text.strip():
            raise InvalidField("text has nothing but white space.", field="text")
        return
    if request.mode == pb.SEARCH_MODE_LEXICAL:
        raise InvalidField("A lexical search needs a text.", field="mode")
    if request.mode == pb.SEARCH_MODE_HYBRID and not sparse:
        raise InvalidField(
            "A hybrid search needs a text, or a sparse_vector beside its query.", field="mode"
        )
    if query == "point_id":
        point_id(request.point_id, "point_id")
    elif query == "examples":
        examples = request.examples
        fields.enum(examples, "strategy")
        if sparse and examples.strategy == search_pb2.EXAMPLE_STRATEGY_BEST_SCORE:
            raise InvalidField(
                "EXAMPLE_STRATEGY_BEST_SCORE is a search of its own for each example. Leave "
                "sparse_vector out, or take the average.",
                field="examples.strategy",
            )
        _examples(examples.positive, "examples.positive", least=1)
        _examples(examples.negative, "examples.negative", least=0)


def _without_query(request: pb.SearchCollectionRequest, sparse: bool) -> None:
    if not sparse:
        raise InvalidField(
            "The search has no query. Give text, vector, point_id, examples or sparse_vector.",
            field="query",
        )
    if request.mode == pb.SEARCH_MODE_HYBRID:
        raise InvalidField(
            "A hybrid search needs a text, a vector, a point_id or examples beside sparse_vector.",
            field="mode",
        )


def _sparse(query: str | None, sparse: bool) -> None:
    """A search by sparse vector alone."""
    if query == "examples":
        raise InvalidField(
            "Examples are searched by vector. Give one point_id or sparse_vector to search by "
            "sparse vector.",
            field="mode",
        )
    if query == "point_id" and sparse:
        raise InvalidField(
            "point_id brings its own sparse vector. Leave one of them out, or search in hybrid "
            "mode.",
            field="sparse_vector",
        )
    if query != "point_id" and not sparse:
        raise InvalidField(
            "A sparse search needs a sparse_vector, or the point_id of a point with one.",
            field="mode",
        )


def _examples(examples: Sequence[search_pb2.Example], field: str, least: int) -> None:
    fields.items(examples, field, EXAMPLES_MAX, least)
    for index, example in enumerate(examples):
        kind = example.WhichOneof("example")
        if kind is None:
            raise InvalidField(
                f"{field}[{index}] is empty. Give point_id or vector.", field=f"{field}[{index}]"
            )
        if kind == "point_id":
            point_id(example.point_id, f"{field}[{index}].point_id")


def _fusion(fusion: pb.RankFusion) -> None:
    with located("fusion"):
        fields.enum(fusion, "method")
    if fusion.k:
        fields.number(fusion.k, "fusion.k", 1, 10_000)
    for leg in ("dense_weight", "lexical_weight", "sparse_weight"):
        if fusion.HasField(leg):
            fields.number(getattr(fusion, leg), f"fusion.{leg}", 1e-6, 1_000)
    fields.number(fusion.candidates, "fusion.candidates", 0, LIMIT_MAX)


def _decay(decay: search_pb2.Decay, field: str) -> None:
    with located(field):
        fields.enum(decay, "kind")
    if decay.WhichOneof("origin") is None:
        raise InvalidField(
            f"{field} has no origin. Give `number` for a field of numbers, `time` for times.",
            field=field,
        )


def _rerank(request: pb.SearchCollectionRequest) -> None:
    rerank = request.rerank
    with located("rerank"):
        fields.enum(rerank, "method")
    fields.number(rerank.candidates, "rerank.candidates", 0, RERANK_CANDIDATES_MAX)
    if rerank.model:
        names.parse(rerank.model, "embeddingModels/*", "rerank.model")
    if rerank.method == search_pb2.RERANK_METHOD_TOKENS and request.WhichOneof("query") != "text":
        raise InvalidField(
            "Tokens rerank by those of a text, and the search has none. Give one, or rerank by "
            "sentences.",
            field="rerank.method",
        )
    if rerank.method != search_pb2.RERANK_METHOD_NONE and _has_nothing_to_say(request):
        raise InvalidField(
            "Sentences rerank by a text or a vector, and the search has neither. Give a text "
            "beside sparse_vector, in mode SPARSE if it is not to be searched.",
            field="rerank.method",
        )
    if _by_model(rerank):
        fields.required(rerank.model, "rerank.model")
        if request.WhichOneof("query") != "text":
            raise InvalidField(
                "A model reranks by a text, and the search has none. Give one, or rerank by "
                "sentences.",
                field="rerank.method",
            )


def _has_nothing_to_say(request: pb.SearchCollectionRequest) -> bool:
    """Whether a search is by sparse vector and nothing else."""
    query = request.WhichOneof("query")
    sparse = request.mode == pb.SEARCH_MODE_SPARSE
    return query is None or (sparse and query == "point_id")


def _by_model(rerank: search_pb2.Rerank) -> bool:
    unspecified = rerank.method == search_pb2.RERANK_METHOD_UNSPECIFIED
    return rerank.method == search_pb2.RERANK_METHOD_MODEL or (unspecified and bool(rerank.model))
