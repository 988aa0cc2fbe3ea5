"""Bad requests of the retrieval service."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from google.protobuf import struct_pb2, text_format
from google.protobuf.message import Message
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, filter_pb2, point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb

from tests.behaviour.bad_requests import INF, NAN, Bad, Table, World, identified, named, paged
from tests.behaviour.given import all_of, between, dense, equals, new_id, one_of, packed, vectors

GOOD = packed(vectors(1)[0])
ABSENT = "collections/absent"
FOR_NAN = "filter for NaN"


def _create(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.CreateCollectionRequest:
        return pb.CreateCollectionRequest(
            collection=collection_pb2.Collection(**{"dimensions": 8, **fields}),
            collection_id=new_id(),
        )

    by_id = partial(pb.CreateCollectionRequest, collection=collection_pb2.Collection(dimensions=8))
    yield from identified(by_id)
    yield Bad("collection_id with capitals", by_id(collection_id="UPPER"))
    yield Bad("collection_id too long", by_id(collection_id="x" * 64))
    taken = by_id(collection_id=world.vectors.partition("/")[2])
    yield Bad("id taken", taken, "COLLECTION_EXISTS")
    yield Bad("display_name too long", make(display_name="x" * 201))
    yield Bad("display_name with a NUL", make(display_name="a\0b"))
    yield Bad("dimensions below zero", make(dimensions=-1))
    yield Bad("dimensions over 4,096", make(dimensions=4_097))
    yield Bad("tokens without a model to make them", make(token_store=True))
    yield Bad("metric unknown", make(metric=99))
    yield Bad("vector_storage unknown", make(vector_storage=99))
    yield Bad("language unknown", make(language="xx"))
    yield Bad("model of the wrong form", make(embedding_model="mini"))
    absent = make(embedding_model="embeddingModels/absent", dimensions=0)
    yield Bad("model unknown", absent, "EMBEDDING_MODEL_NOT_FOUND")
    yield Bad("rerank_model of the wrong form", make(rerank_model="mini"))
    absent = make(rerank_model="embeddingModels/absent")
    yield Bad("rerank_model unknown", absent, "EMBEDDING_MODEL_NOT_FOUND")
    yield Bad("dimensions not the model's", make(embedding_model="embeddingModels/default"))
    for chunking in (
        collection_pb2.Chunking(tokens_max=15),
        collection_pb2.Chunking(tokens_max=2_049),
        collection_pb2.Chunking(tokens_max=100, overlap_tokens=51),
        collection_pb2.Chunking(overlap_tokens=-1),
        collection_pb2.Chunking(strategy=99),  # type: ignore[arg-type]
    ):
        yield Bad(f"chunking {chunking}", make(chunking=chunking))
    longer = collection_pb2.Chunking(tokens_max=1_000)
    yield Bad("passages longer than the model reads", make(chunking=longer, dimensions=0))
    for hnsw in (
        collection_pb2.HnswSettings(m=1),
        collection_pb2.HnswSettings(m=101),
        collection_pb2.HnswSettings(ef_construction=7),
        collection_pb2.HnswSettings(ef_construction=2_001),
        collection_pb2.HnswSettings(ef_search=-1),
        collection_pb2.HnswSettings(ef_search=4_097),
    ):
        yield Bad(f"hnsw {hnsw}", make(hnsw=hnsw))
    for limits in _wrong_limits():
        yield Bad(f"limits {limits}", make(limits=limits))
    for share in (-0.1, 1.1):
        recall = collection_pb2.RecallSettings(sample_share=share)
        yield Bad(f"a sample share of {share}", make(recall=recall))
        yield Bad(f"a target of {share}", make(recall=collection_pb2.RecallSettings(target=share)))
    for field in ("sample_share", "target"):
        recall = collection_pb2.RecallSettings(**{field: NAN})
        yield Bad(f"a {field} that is not a number", make(recall=recall))


def _wrong_limits() -> Iterator[collection_pb2.CollectionLimits]:
    limits = collection_pb2.CollectionLimits
    for field, most in (
        ("limit_max", 1_000),
        ("ef_search_max", 4_096),
        ("upsert_points_max", 1_000),
        ("payload_bytes_max", 64 << 10),
        ("filter_conditions_max", 256),
        ("points_max", 2**53),
        ("bytes_max", 2**53),
        ("searches_per_second", 1_000_000),
        ("writes_per_second", 1_000_000),
    ):
        yield limits(**{field: -1})
        yield limits(**{field: most + 1})
    yield limits(searches_per_second=NAN)
    yield limits(writes_per_second=INF)


def _update(world: World) -> Iterator[Bad]:
    def make(name: str = world.texts, mask: str = "", **fields: Any) -> pb.UpdateCollectionRequest:
        request = pb.UpdateCollectionRequest(
            collection=collection_pb2.Collection(name=name, **fields)
        )
        if mask:
            request.update_mask.paths.append(mask)
        return request

    yield from named(partial(make, display_name="x"), "collections/{}")
    yield Bad("collection unknown", make(ABSENT, display_name="x"), "COLLECTION_NOT_FOUND")
    yield Bad("nothing changes", make())
    yield Bad("dimensions cannot change", make(dimensions=9))
    yield Bad("mask of a fixed field", make(mask="metric", metric=2))
    yield Bad("mask of no field", make(mask="nope"))
    yield Bad("display_name too long", make(display_name="x" * 201))
    yield Bad("display_name with a NUL", make(display_name="a\0b"))
    yield Bad("hnsw.m too small", make(hnsw=collection_pb2.HnswSettings(m=1)))
    yield Bad("limit_max too large", make(limits=collection_pb2.CollectionLimits(limit_max=1_001)))
    yield Bad("vector_storage unknown", make(vector_storage=99))
    yield Bad("recall over 1", make(recall=collection_pb2.RecallSettings(target=2)))
    longer = collection_pb2.Chunking(tokens_max=1_000)
    yield Bad("passages longer than the model reads", make(chunking=longer))


def _named(kind: type[Any], world: World) -> Iterator[Bad]:
    yield from named(lambda name: kind(name=name), "collections/{}")
    yield Bad("collection unknown", kind(name=ABSENT), "COLLECTION_NOT_FOUND")


def wrong_vectors(field: str) -> Iterator[tuple[str, vector_pb2.Vector, str]]:
    yield f"{field} of the wrong length", packed(vectors(1, 5)[0]), "DIMENSION_MISMATCH"
    yield f"{field} with NaN", dense([NAN] + [1.0] * 7), "INVALID_VECTOR"
    yield f"{field} with Inf", dense([INF] + [1.0] * 7), "INVALID_VECTOR"
    yield f"{field} of zeros", dense([0.0] * 8), "INVALID_VECTOR"
    yield f"{field} empty", vector_pb2.Vector(), "INVALID_VECTOR"
    yield f"{field} of half a float", vector_pb2.Vector(packed=b"12345"), "INVALID_VECTOR"


def wrong_sparse_vectors(field: str) -> Iterator[tuple[str, vector_pb2.SparseVector]]:
    make = vector_pb2.SparseVector
    yield f"{field} empty", make()
    yield f"{field} with NaN", make(indices=[3, 1], values=[1.0, NAN])
    yield f"{field} with Inf", make(indices=[3], values=[-INF])
    yield f"{field} with a zero", make(indices=[3, 4], values=[1.0, 0.0])
    yield f"{field} with a huge value", make(indices=[3], values=[1e16])
    yield f"{field} with an index twice", make(indices=[3, 1, 3], values=[1.0, 2.0, 3.0])
    yield f"{field} with more indices than values", make(indices=[1, 2], values=[1.0])
    yield f"{field} with more values than indices", make(indices=[1], values=[1.0, 2.0])
    yield f"{field} of 4,097 entries", make(indices=range(4_097), values=[1.0] * 4_097)


def _upsert(world: World) -> Iterator[Bad]:
    def make(**fields: Any) -> pb.UpsertPointsRequest:
        given = {"collection": world.vectors, "points": [point_pb2.Point(id="a", vector=GOOD)]}
        return pb.UpsertPointsRequest(**{**given, **fields})

    def one(**fields: Any) -> pb.UpsertPointsRequest:
        return make(points=[point_pb2.Point(**{"id": "a", "vector": GOOD, **fields})])

    yield from named(lambda name: make(collection=name), "collections/{}")
    yield from identified(make)
    yield Bad("collection unknown", make(collection=ABSENT), "COLLECTION_NOT_FOUND")
    yield Bad("no points", make(points=[]))
    many = [point_pb2.Point(id=str(i), vector=GOOD) for i in range(1_001)]
    yield Bad("1,001 points", make(points=many))
    yield Bad("id missing", one(id=""))
    yield Bad("point id too long", one(id="x" * 257))
    yield Bad("id with a control character", one(id="a\nb"))
    yield Bad("text too long", one(text="x" * 100_001))
    yield Bad("text with a NUL", one(text="a\0b"))
    yield Bad("neither vector nor text", make(points=[point_pb2.Point(id="a")]))
    for what, vector, reason in wrong_vectors("vector"):
        yield Bad(what, one(vector=vector), reason)
    for what, sparse in wrong_sparse_vectors("sparse_vector"):
        yield Bad(what, one(sparse_vector=sparse), "INVALID_VECTOR")
    large = struct_pb2.Struct()
    large.update({"x": "y" * 70_000})
    yield Bad("payload too large", one(payload=large))
    yield Bad("document is output only", one(document=f"{world.texts}/documents/d"))
    yield Bad("passage_index is output only", one(passage_index=1))
    yield Bad("span is output only", one(span=vector_pb2.TextSpan(start=0, end=1)))
    yield Bad("sentences are output only", one(sentences=[vector_pb2.SentenceVector()]))
    foreign = make(collection=world.texts, fingerprint="other")
    yield Bad("fingerprint of another space", foreign, "FINGERPRINT_MISMATCH")


_WRONG_LEAVES = (
    ("all of no values", 'has_all { field: "a" }'),
    ("no instant", 'datetime_range { field: "a" gte: "yesterday" }'),
    ("an instant without an offset", 'datetime_range { field: "a" gt: "2024-01-01T00:00:00" }'),
    ("an empty instant", 'datetime_range { field: "a" lt: "" }'),
    ("no bound of instants", 'datetime_range { field: "a" }'),
    ("no bound of counts", 'values_count { field: "a" }'),
    ("too large a count", 'values_count { field: "a" lte: 2147483648 }'),
    ("no text", 'has_words { field: "a" }'),
    ("a text of 1,001 characters", f'has_words {{ field: "a" text: "{"x" * 1_001}" }}'),
    ("a text without words", 'has_words { field: "a" text: "?!" }'),
    ("null of no field", "is_null {}"),
)


def wrong_filters() -> Iterator[tuple[str, filter_pb2.Filter]]:
    nested = equals("a", 1)
    for _ in range(17):
        nested = all_of(nested)
    yield "filter without a condition", filter_pb2.Filter()
    yield "filter without a field", equals("", 1)
    yield "filter of an empty list", all_of()
    yield "filter of no values", one_of("a", [])
    yield "filter of 1,025 values", one_of("a", list(range(1_025)))
    yield "filter without a bound", between("a")
    yield "filter of a range of booleans", between("a", gte=True)
    yield "filter of a range of two kinds", between("a", gte=1, lt="x")
    yield "filter 18 deep", nested
    yield "filter of 257 conditions", all_of(*[equals("a", i) for i in range(257)])
    yield "filter of 100,000 values", one_of("a", list(range(100_000)))
    yield "filter of 10,000 conditions", all_of(*[equals("a", 1)] * 10_000)
    for what, text in _WRONG_LEAVES:
        yield f"filter with {what}", text_format.Parse(text, filter_pb2.Filter())
    null = filter_pb2.Filter()
    null.equals.field = "a"
    null.equals.value.null_value = struct_pb2.NULL_VALUE
    yield "filter for null", null
    yield FOR_NAN, equals("a", NAN)


def filtered(what: str, request: Message) -> Bad:
    """JSON has no NaN, and a filter's values are JSON's."""
    return Bad(what, request, "INVALID_FILTER", in_json=what != FOR_NAN)


def _delete(world: World) -> Iterator[Bad]:
    make = partial(pb.DeletePointsRequest, collection=world.vectors)
    yield from named(lambda n: pb.DeletePointsRequest(collection=n, ids=["a"]), "collections/{}")
    yield from identified(partial(make, ids=["a"]))
    absent = pb.DeletePointsRequest(collection=ABSENT, ids=["a"])
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("neither ids nor filter", make())
    yield Bad("both ids and filter", make(ids=["a"], filter=equals("a", 1)))
    yield Bad("1,001 ids", make(ids=[str(i) for i in range(1_001)]))
    yield Bad("an empty id", make(ids=["a", ""]))
    for what, wrong in wrong_filters():
        yield filtered(what, make(filter=wrong))


def _get(world: World) -> Iterator[Bad]:
    make = partial(pb.GetPointsRequest, collection=world.vectors)
    yield from named(lambda n: pb.GetPointsRequest(collection=n, ids=["a"]), "collections/{}")
    absent = pb.GetPointsRequest(collection=ABSENT, ids=["a"])
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("no ids", make())
    yield Bad("1,001 ids", make(ids=[str(i) for i in range(1_001)]))
    yield Bad("an empty id", make(ids=[""]))
    yield Bad("min_watermark no watermark", make(ids=["a"], min_watermark="soon"))


def _list_points(world: World) -> Iterator[Bad]:
    make = partial(pb.ListPointsRequest, collection=world.vectors)
    yield from named(lambda n: pb.ListPointsRequest(collection=n), "collections/{}")
    yield from paged(make)
    absent = pb.ListPointsRequest(collection=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("min_watermark no watermark", make(min_watermark="-1"))
    for what, wrong in wrong_filters():
        yield filtered(what, make(filter=wrong))


def _count(world: World) -> Iterator[Bad]:
    make = partial(pb.CountPointsRequest, collection=world.vectors)
    yield from named(lambda n: pb.CountPointsRequest(collection=n), "collections/{}")
    absent = pb.CountPointsRequest(collection=ABSENT)
    yield Bad("collection unknown", absent, "COLLECTION_NOT_FOUND")
    yield Bad("min_watermark no watermark", make(min_watermark="1.5"))
    for what, wrong in wrong_filters():
        yield filtered(what, make(filter=wrong))


TABLE: Table = {
    "CreateCollection": _create,
    "GetCollection": partial(_named, pb.GetCollectionRequest),
    "ListCollections": lambda world: paged(pb.ListCollectionsRequest),
    "UpdateCollection": _update,
    "DeleteCollection": partial(_named, pb.DeleteCollectionRequest),
    "GetCollectionStats": partial(_named, pb.GetCollectionStatsRequest),
    "UpsertPoints": _upsert,
    "DeletePoints": _delete,
    "GetPoints": _get,
    "ListPoints": _list_points,
    "CountPoints": _count,
}
