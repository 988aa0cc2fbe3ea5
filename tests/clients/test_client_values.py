"""Filters, vectors, payloads and names: what goes in is what the contract says."""

from __future__ import annotations

import array
import dataclasses
import math
import pickle
import typing
from collections.abc import Callable
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
import ragmesh
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from ragmesh import Field, Filter, Point, Vector, _names, _session
from ragmesh._convert import answers as answer_values
from ragmesh._convert import embedding as embedding_values
from ragmesh._convert import retrieval as convert
from ragmesh._types import answers, documents, embedding, retrieval, search
from ragmesh._values import from_struct, to_struct
from ragmesh.api.documents.v1 import document_pb2, ingest_job_pb2
from ragmesh.api.embedding.v1 import embedding_model_pb2, embedding_service_pb2
from ragmesh.api.generation.v1 import citation_pb2, generation_service_pb2, message_pb2
from ragmesh.api.retrieval.v1 import collection_pb2, retrieval_service_pb2, search_pb2

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.text(st.characters(codec="utf-8"))
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=20,
)


def as_json(condition: Filter) -> Any:
    return json_format.MessageToDict(condition.to_proto(), preserving_proto_field_name=True)


def test_filters_read_as_they_are_written() -> None:
    year, lang = Field("meta.year"), Field("lang")
    recent = {"range": {"field": "meta.year", "gte": 2020.0}}
    german = {"equals": {"field": "lang", "value": "de"}}
    assert as_json(year >= 2020) == recent
    assert as_json((year >= 2020) & (lang == "de") & (year < 2024)) == {
        "all_of": {"filters": [recent, german, {"range": {"field": "meta.year", "lt": 2024.0}}]}
    }
    assert as_json((year >= 2020) | (lang == "de")) == {"any_of": {"filters": [recent, german]}}
    assert as_json(~(lang == "de")) == as_json(lang != "de") == {"none_of": {"filters": [german]}}
    assert as_json(year.between(gt=1, lte=2)) == {
        "range": {"field": "meta.year", "gt": 1.0, "lte": 2.0}
    }
    assert as_json(lang.one_of("de", True, 3)) == {
        "one_of": {"field": "lang", "values": ["de", True, 3.0]}
    }
    assert as_json(lang.exists()) == {"exists": {"field": "lang"}}
    assert as_json(lang.is_null()) == {"is_null": {"field": "lang"}}
    assert as_json(lang.has_all("de", 1)) == {"has_all": {"field": "lang", "values": ["de", 1.0]}}
    assert as_json(lang.has_words("High German")) == {
        "has_words": {"field": "lang", "text": "High German"}
    }
    assert as_json(lang.has_words("de fr", any=True)) == {
        "has_words": {"field": "lang", "text": "de fr", "any": True}
    }
    assert as_json(lang.values_count(gte=0, lt=2)) == {
        "values_count": {"field": "lang", "gte": 0, "lt": 2}
    }


def test_times_of_filters_are_sent_as_the_instants_they_are() -> None:
    at = Field("at")
    offset = timezone(timedelta(hours=2, seconds=1))  # RFC 3339 has no offsets of seconds
    noon = datetime(2024, 2, 29, 12, tzinfo=offset)
    since = {"datetime_range": {"field": "at", "gte": "2024-02-29T09:59:59+00:00"}}
    assert as_json(at >= noon) == as_json(at.between_times(gte=noon)) == since
    assert as_json(at.between(gt=date(2024, 1, 1), lt=noon)) == {
        "datetime_range": {"field": "at", "gt": "2024-01-01", "lt": "2024-02-29T09:59:59+00:00"}
    }
    assert as_json(at.between_times(lte="2024-02-29T12:00:00+02:00")) == {
        "datetime_range": {"field": "at", "lte": "2024-02-29T12:00:00+02:00"}
    }
    assert as_json(at < "2024") == {"range": {"field": "at", "lt": "2024"}}


def test_not_of_and_is_not_flattened_into_not_of_its_parts() -> None:
    both = (Field("a") == 1) & (Field("b") == 2)
    assert as_json(~both) == {"none_of": {"filters": [as_json(both)]}}
    assert as_json(~~both) == {"none_of": {"filters": [as_json(~both)]}}


@pytest.mark.parametrize(
    "write",
    [
        lambda: (Field("a") == 1) and (Field("b") == 2),
        lambda: not Field("a").exists(),
        lambda: 1 < Field("a") < 3,
    ],
)
def test_what_python_would_silently_drop_from_a_filter_is_refused(
    write: Callable[[], object],
) -> None:
    with pytest.raises(TypeError, match=r"&, \| and ~"):
        write()


def test_values_that_no_filter_holds_are_refused() -> None:
    with pytest.raises(ragmesh.InvalidFilter, match="exists"):
        Field("a") == None  # noqa: B015, E711
    with pytest.raises(ragmesh.InvalidFilter, match="no bound"):
        Field("a").between()
    with pytest.raises(ragmesh.InvalidFilter, match="key of the payload"):
        Field("")
    with pytest.raises(ragmesh.InvalidFilter, match="no time zone"):
        Field("a") > datetime(2024, 1, 1)  # noqa: B015
    with pytest.raises(ragmesh.InvalidFilter, match="no bound"):
        Field("a").between_times()
    with pytest.raises(ragmesh.InvalidFilter, match="-1 values"):
        Field("a").values_count(gt=-1)


def test_a_filter_a_thousand_levels_deep_is_refused_with_the_reason() -> None:
    deep = Field("a").exists()
    with pytest.raises(ragmesh.InvalidFilter, match="16 levels"):
        for _ in range(1_000):
            deep = ~(deep & Field("b").exists())
            deep.to_proto()


@pytest.mark.parametrize(
    "values",
    [
        [1.5, -2.0, 0.25],
        (1.5, -2.0, 0.25),
        array.array("f", [1.5, -2.0, 0.25]),
        array.array("d", [1.5, -2.0, 0.25]),
        np.array([1.5, -2.0, 0.25], np.float32),
        np.array([1.5, -2.0, 0.25], np.float64),
        np.array([1.5, -2.0, 0.25], np.float16),
        np.array([1.5, -2.0, 0.25], ">f4"),
        np.array([1.5, 9, -2.0, 9, 0.25, 9], np.float32)[::2],
        np.array([1.5, -2.0, 0.25], "<f4").tobytes(),
    ],
)
def test_every_form_of_a_vector_is_packed_the_same(values: Any) -> None:
    vector = Vector(values)
    assert vector.packed == np.array([1.5, -2.0, 0.25], "<f4").tobytes()
    assert (list(vector), len(vector), vector[1], vector[1:]) == (
        [1.5, -2.0, 0.25],
        3,
        -2.0,
        [-2.0, 0.25],
    )
    assert np.asarray(vector).tolist() == [1.5, -2.0, 0.25]
    assert np.asarray(vector).dtype == np.float32
    assert pickle.loads(pickle.dumps(vector)) == vector


@pytest.mark.parametrize("values", ["abc", [[1.0]], ["a"], b"abc", np.ones((2, 2), "f4"), [None]])
def test_what_is_no_vector_is_refused(values: Any) -> None:
    with pytest.raises(ragmesh.InvalidVector):
        Point("p", values)


@settings(max_examples=40)
@given(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON))
def test_payloads_come_back_as_they_went(payload: dict[str, Any]) -> None:
    assert from_struct(to_struct(payload)) == payload


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1, {1: 2}, {1, 2}, b"x"])
def test_payloads_that_json_cannot_hold_are_refused_with_their_place(value: Any) -> None:
    with pytest.raises(ragmesh.InvalidField, match=r"payload\.a\[1\]"):
        to_struct({"a": [0, value]})


def test_a_point_comes_back_as_it_went() -> None:
    payload = {"a": [1, "x", None], "b": {"c": True}}
    point = Point("p", [0.5, 1.0], "text", payload, sparse_vector={3: 1.5, 2: 1.0})
    assert convert.point(convert.to_point(point)) == point
    bare = Point("q")
    assert convert.point(convert.to_point(bare)) == bare


def test_an_unset_vector_time_or_abstention_is_none() -> None:
    assert convert.collection(collection_pb2.Collection()).create_time is None
    assert (
        answer_values.generated(generation_service_pb2.GenerateTextResponse()).abstention_reason
        is None
    )


def test_a_model_says_all_that_the_contract_says_of_it() -> None:
    message = embedding_model_pb2.EmbeddingModel(
        name="embeddingModels/m",
        display_name="m",
        dimensions=384,
        tokens_max=256,
        fingerprint="f",
        provider="cpu",
        precision="int8",
        task=embedding_model_pb2.MODEL_TASK_RERANK,
        loaded=True,
        memory_kib=3 << 32,
        dimensions_offered=[64, 384],
    )
    model = embedding_values.model(message)
    assert dataclasses.asdict(model) == {
        **{name.name: getattr(message, name.name) for name in message.DESCRIPTOR.fields},
        "task": "rerank",
        "dimensions_offered": (64, 384),
    }
    assert embedding_values.model(embedding_model_pb2.EmbeddingModel()).task == "unspecified"


@pytest.mark.parametrize(
    ("parts", "share"), [([(0.5, 1.0), (0.0, 3.0)], 0.125), ([(0.25, 4.0)], 0.25), ([(0, 0)], 0.0)]
)
def test_shares_of_padding_are_weighed_by_the_time_in_the_model(
    parts: list[tuple[float, float]], share: float
) -> None:
    messages = [
        embedding_service_pb2.EmbedTimings(padding_share=padding, inference_ms=ms)
        for padding, ms in parts
    ]
    assert embedding_values.timings(messages).padding_share == share


def test_names_are_taken_whole_or_as_ids_and_nothing_else() -> None:
    assert _names.collection("a") == _names.collection("collections/a") == "collections/a"
    whole = "collections/a/documents/d"
    assert _names.document(whole, None) == _names.document("d", "a") == whole
    assert _names.document("documents/d", "collections/a") == whole
    for wrong in ("", "documents/a", "collections/", "collections/a/b"):
        with pytest.raises(ragmesh.InvalidField, match=r"collections/\{id\}"):
            _names.collection(wrong)
    with pytest.raises(ragmesh.InvalidField, match="together with `collection`"):
        _names.document("d", None)
    with pytest.raises(ragmesh.InvalidField):
        _names.document(whole, "b")


@given(st.dictionaries(st.integers(0, 2**32 - 1), st.floats(width=32, allow_nan=False)))
def test_sparse_vectors_are_what_was_given(entries: dict[int, float]) -> None:
    vector = ragmesh.SparseVector(entries)
    assert dict(zip(vector.indices, vector.values, strict=True)) == entries
    assert vector == ragmesh.SparseVector(list(entries), entries.values())
    assert len(vector) == len(entries)
    assert ragmesh.Point("p", sparse_vector=entries).sparse_vector == vector
    assert pickle.loads(pickle.dumps(vector)) == vector


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: ragmesh.SparseVector({-1: 1.0}),
        lambda: ragmesh.SparseVector({2**32: 1.0}),
        lambda: ragmesh.SparseVector({1.5: 1.0}),  # type: ignore[dict-item]
        lambda: ragmesh.SparseVector({1: "many"}),
        lambda: ragmesh.SparseVector([1, 2], [1.0]),
        lambda: ragmesh.SparseVector([1, 2]),
        lambda: ragmesh.SparseVector({1: 1.0}, [1.0]),
    ],
)
def test_what_is_no_sparse_vector_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(ragmesh.InvalidVector, match="A sparse vector"):
        wrong()


@pytest.mark.parametrize(
    ("literal", "enum"),
    [
        (retrieval.Metric, collection_pb2.Metric),
        (search.SearchMode, retrieval_service_pb2.SearchMode),
        (search.FusionMethod, search_pb2.FusionMethod),
        (search.DecayKind, search_pb2.DecayKind),
        (search.ExampleStrategy, search_pb2.ExampleStrategy),
        (search.RerankMethod, search_pb2.RerankMethod),
        (search.RerankOutcome, search_pb2.RerankOutcome),
        (search.SearchLeg, search_pb2.SearchLeg),
        (search.SearchStage, search_pb2.SearchStage),
        (embedding.InputKind, embedding_service_pb2.InputKind),
        (embedding.ModelTask, embedding_model_pb2.ModelTask),
        (embedding.ServedLane, embedding_service_pb2.Lane),
        (_session.Lane, embedding_service_pb2.Lane),
        (documents.DocumentState, document_pb2.Document.State),
        (documents.IngestJobState, ingest_job_pb2.IngestJob.State),
        (documents.IngestJobStage, ingest_job_pb2.IngestJob.Stage),
        (answers.Backend, generation_service_pb2.GenerationModel.Backend),
        (answers.AbstentionReason, citation_pb2.AbstentionReason),
        (answers.FinishReason, message_pb2.FinishReason),
        (answers.Role, message_pb2.ChatMessage.Role),
        (answers.ToolMode, message_pb2.ToolChoice.Mode),
    ],
)
def test_every_value_of_the_contract_s_enums_has_its_word(literal: Any, enum: Any) -> None:
    prefix = enum.Name(0).removesuffix("UNSPECIFIED")
    words = {v.name.removeprefix(prefix).lower() for v in enum.DESCRIPTOR.values if v.number}
    assert set(typing.get_args(literal)) - {"unspecified"} == words
