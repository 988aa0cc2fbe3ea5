"""Bad searches, alone and in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from google.protobuf import duration_pb2
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh.api.retrieval.v1 import search_pb2

from tests.behaviour.bad_requests import NAN, Bad, Table, World, named
from tests.behaviour.bad_retrieval import (
    ABSENT,
    FOR_NAN,
    GOOD,
    wrong_filters,
    wrong_sparse_vectors,
    wrong_vectors,
)
from tests.behaviour.given import equals, packed, vectors

DEFAULT_MODEL = "embeddingModels/default"


def one(world: World, **fields: Any) -> pb.SearchCollectionRequest:
    """A search by vector, unless the fields say by what."""
    queries = {"text", "vector", "point_id", "examples", "sparse_vector"}
    query = {} if queries & fields.keys() else {"vector": GOOD}
    return pb.SearchCollectionRequest(**{"collection": world.vectors, **query, **fields})


def _sparse(world: World, make: Callable[..., pb.SearchCollectionRequest]) -> Iterator[Bad]:
    for what, wrong in wrong_sparse_vectors("sparse_vector"):
        yield Bad(what, make(sparse_vector=wrong), "INVALID_VECTOR")
    given = vector_pb2.SparseVector(indices=[1], values=[1.0])
    for mode in (pb.SEARCH_MODE_DENSE, pb.SEARCH_MODE_LEXICAL):
        both = make(text="x", sparse_vector=given, mode=mode)
        yield Bad(f"a sparse vector in mode {mode}", both)
    yield Bad("hybrid of nothing but it", make(sparse_vector=given, mode=pb.SEARCH_MODE_HYBRID))
    sparse = partial(make, mode=pb.SEARCH_MODE_SPARSE)
    yield Bad("a sparse search without one", sparse(text="x"))
    yield Bad("a sparse search by two", sparse(point_id="p", sparse_vector=given))
    yield Bad("a sparse search from nowhere", sparse(point_id="absent"), "POINT_NOT_FOUND")
    yield Bad("sentences of nothing", make(sparse_vector=given, rerank=search_pb2.Rerank()))
    by_point = sparse(point_id="here", rerank=search_pb2.Rerank())
    yield Bad("sentences of a sparse vector", by_point)
    examples = search_pb2.Examples(positive=[search_pb2.Example(vector=GOOD)])
    yield Bad("a sparse search by examples", sparse(examples=examples, sparse_vector=given))
    examples.strategy = search_pb2.EXAMPLE_STRATEGY_BEST_SCORE
    yield Bad("best scores beside it", make(examples=examples, sparse_vector=given))


def _search(world: World) -> Iterator[Bad]:
    make = partial(one, world)
    yield from named(lambda name: make(collection=name), "collections/{}")
    yield Bad("collection unknown", make(collection=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("no query", pb.SearchCollectionRequest(collection=world.vectors))
    yield Bad("text empty", make(text=""))
    yield Bad("text of white space", make(text=" \n"))
    yield Bad("text too long", make(text="x" * 10_001))
    for what, vector, reason in wrong_vectors("vector"):
        yield Bad(what, make(vector=vector), reason)
    yield Bad("point unknown", make(point_id="absent"), "POINT_NOT_FOUND")
    yield Bad("point id too long", make(point_id="x" * 257))
    yield Bad("limit below zero", make(limit=-1))
    yield Bad("limit over 1,000", make(limit=1_001))
    yield Bad("limit of a thousand million", make(limit=10**9))
    yield Bad("ef_search below zero", make(ef_search=-1))
    yield Bad("ef_search over 4,096", make(ef_search=4_097))
    yield Bad("mode unknown", make(mode=99))
    yield Bad("a lexical search without a text", make(mode=pb.SEARCH_MODE_LEXICAL))
    yield Bad("a hybrid search without a text", make(mode=pb.SEARCH_MODE_HYBRID))
    yield from _sparse(world, make)
    yield Bad("score_threshold of NaN", make(score_threshold=NAN))
    yield Bad("min_watermark no watermark", make(min_watermark="x"))
    meaning = make(text="x", mode=pb.SEARCH_MODE_DENSE)
    yield Bad("meaning without a model", meaning, "NO_EMBEDDING_MODEL")
    by_tokens = search_pb2.Rerank(method=search_pb2.RERANK_METHOD_TOKENS)
    kept = make(collection=world.texts, text="x", rerank=by_tokens)
    yield Bad("tokens that are not kept", kept, "TOKEN_STORE_MISSING")
    yield Bad("tokens without a text", make(rerank=by_tokens))
    foreign = make(collection=world.texts, text="x", fingerprint="other")
    yield Bad("fingerprint of another space", foreign, "FINGERPRINT_MISMATCH")
    for what, wrong in wrong_filters():
        request = make(filter=wrong)
        yield Bad(what, request, "INVALID_FILTER", in_json=what != FOR_NAN)
    yield from _fusions(make)
    yield from _examples(make)
    yield from _formulas(make)
    yield from _later_stages(make)


def _fusions(make: Any) -> Iterator[Bad]:
    yield Bad("fusion.k below zero", make(fusion=pb.RankFusion(k=-1)))
    yield Bad("fusion.k over 10,000", make(fusion=pb.RankFusion(k=10_001)))
    yield Bad("a weight of zero", make(fusion=pb.RankFusion(dense_weight=0)))
    yield Bad("a weight of NaN", make(fusion=pb.RankFusion(lexical_weight=NAN)))
    yield Bad("a sparse weight of zero", make(fusion=pb.RankFusion(sparse_weight=0)))
    yield Bad("fusion.method unknown", make(fusion=pb.RankFusion(method=9)))  # type: ignore[arg-type]
    yield Bad("fusion.candidates below zero", make(fusion=pb.RankFusion(candidates=-1)))
    yield Bad("fusion.candidates over 1,000", make(fusion=pb.RankFusion(candidates=1_001)))


def _examples(make: Any) -> Iterator[Bad]:
    def like(*positive: Any, **fields: Any) -> pb.SearchCollectionRequest:
        request: pb.SearchCollectionRequest = make(
            examples=search_pb2.Examples(positive=positive, **fields)
        )
        return request

    here = search_pb2.Example(point_id="here")
    yield Bad("no examples", like())
    yield Bad("negative examples alone", like(negative=[here]))
    yield Bad("33 examples", like(*[here] * 33))
    yield Bad("33 negative examples", like(here, negative=[here] * 33))
    yield Bad("an empty example", like(here, search_pb2.Example()))
    yield Bad("an example without an id", like(search_pb2.Example(point_id="")))
    absent = search_pb2.Example(point_id="absent")
    yield Bad("an example unknown", like(here, absent), "POINT_NOT_FOUND")
    yield Bad("a negative example unknown", like(here, negative=[absent]), "POINT_NOT_FOUND")
    for what, vector, reason in wrong_vectors("an example"):
        yield Bad(what, like(search_pb2.Example(vector=vector)), reason)
    row = vectors(1)[0]
    opposed = [search_pb2.Example(vector=packed(one)) for one in (row, -row)]
    yield Bad("examples that cancel each other", like(*opposed), "INVALID_VECTOR")
    yield Bad("a strategy unknown", like(here, strategy=9))
    lexical = like(here)
    lexical.mode = pb.SEARCH_MODE_LEXICAL
    yield Bad("examples by words", lexical)


def _formulas(make: Any) -> Iterator[Bad]:
    boost, number = search_pb2.Boost, search_pb2.NumberOrigin
    hit = equals("a", 1)
    yield Bad("17 boosts", make(boosts=[boost(filter=hit)] * 17))
    yield Bad("a boost of nothing", make(boosts=[boost(factor=2)]), "INVALID_FILTER")
    for factor in (0.0, -1.0, 1e7):
        yield Bad(f"a factor of {factor}", make(boosts=[boost(filter=hit, factor=factor)]))
    yield Bad("a factor of NaN", make(boosts=[boost(filter=hit, factor=NAN)]))
    yield Bad("an addend over a million", make(boosts=[boost(filter=hit, addend=2e6)]))
    for what, wrong in wrong_filters():
        request = make(boosts=[boost(filter=wrong)])
        yield Bad(f"a boost's {what}", request, "INVALID_FILTER", in_json=what != FOR_NAN)

    def decayed(**fields: Any) -> pb.SearchCollectionRequest:
        given = {"field": "a", "number": number(scale=1), **fields}
        request: pb.SearchCollectionRequest = make(decays=[search_pb2.Decay(**given)])
        return request

    fine = search_pb2.Decay(field="a", number=number(scale=1))
    yield Bad("9 decays", make(decays=[fine] * 9))
    yield Bad("a decay of no field", decayed(field=""))
    yield Bad("a decay from nowhere", make(decays=[search_pb2.Decay(field="a")]))
    yield Bad("a decay without a scale", decayed(number=number(origin=1)))
    yield Bad("a decay of a scale below zero", decayed(number=number(scale=-1)))
    yield Bad("a decay from NaN", decayed(number=number(origin=NAN, scale=1)))
    over_time = search_pb2.TimeOrigin(scale=duration_pb2.Duration(seconds=-1))
    yield Bad("a decay over a time below zero", decayed(time=over_time))
    yield Bad("a decay over no time", decayed(time=search_pb2.TimeOrigin()))
    yield Bad("a decay of no kind", decayed(kind=9))
    for midpoint in (0.0, 1.0, NAN):
        yield Bad(f"a midpoint of {midpoint}", decayed(midpoint=midpoint))
    yield Bad("more than 1 without a value", decayed(missing=1.5))


def _later_stages(make: Any) -> Iterator[Bad]:
    rerank, model = search_pb2.Rerank, search_pb2.RERANK_METHOD_MODEL
    yield Bad("rerank.method unknown", make(rerank=rerank(method=9)))  # type: ignore[arg-type]
    yield Bad("rerank.candidates below zero", make(rerank=rerank(candidates=-1)))
    yield Bad("rerank.candidates over 200", make(rerank=rerank(candidates=201)))
    yield Bad("rerank.model of another form", make(text="x", rerank=rerank(model="mini")))
    yield Bad("a model that is not named", make(text="x", rerank=rerank(method=model)))
    named_model = rerank(method=model, model=DEFAULT_MODEL)
    yield Bad("a model without a text", make(rerank=named_model))
    diversity, group = search_pb2.Diversity, search_pb2.Grouping
    for weight in (-0.1, 1.1, NAN):
        request = make(diversity=diversity(relevance_weight=weight))
        yield Bad(f"a weight of relevance of {weight}", request)
    yield Bad("diversity.candidates over 1,000", make(diversity=diversity(candidates=1_001)))
    yield Bad("diversity.candidates below zero", make(diversity=diversity(candidates=-1)))
    yield Bad("group.field too long", make(group=group(field="x" * 257)))
    yield Bad("101 hits a group", make(group=group(hits_per_group=101)))
    yield Bad("hits a group below zero", make(group=group(hits_per_group=-1)))


def _batch(world: World) -> Iterator[Bad]:
    good = pb.SearchCollectionRequest(vector=GOOD)

    def make(**fields: Any) -> pb.BatchSearchCollectionRequest:
        given = {"collection": world.vectors, "searches": [good], **fields}
        return pb.BatchSearchCollectionRequest(**given)

    yield from named(lambda name: make(collection=name), "collections/{}")
    yield Bad("collection unknown", make(collection=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("no searches", make(searches=[]))
    yield Bad("257 searches", make(searches=[good] * 257))
    yield Bad("min_watermark no watermark", make(min_watermark="x"))
    elsewhere = pb.SearchCollectionRequest(collection=world.texts, vector=GOOD)
    yield Bad("a search of another collection", make(searches=[good, elsewhere]))
    later = pb.SearchCollectionRequest(vector=GOOD, min_watermark="1")
    yield Bad("a search at another watermark", make(searches=[later]))
    by_model = pb.SearchCollectionRequest(text="x", rerank=search_pb2.Rerank(model=DEFAULT_MODEL))
    in_texts = make(collection=world.texts, searches=[by_model])
    yield Bad("a reranking by a model", in_texts)
    for bad in _search(world):
        request = bad.request
        assert isinstance(request, pb.SearchCollectionRequest)
        if request.collection == world.vectors:
            inner = pb.SearchCollectionRequest()
            inner.CopyFrom(request)
            inner.collection = ""
            both = make(searches=[good, inner])
            yield Bad(f"second of two: {bad.what}", both, bad.reason, in_json=bad.in_json)


TABLE: Table = {"SearchCollection": _search, "BatchSearchCollection": _batch}
