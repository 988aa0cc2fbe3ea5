"""Hits that are written from columns say what messages made of them say."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest
from google.protobuf import struct_pb2
from hypothesis import example, given
from hypothesis import strategies as st
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh_native.wire import write_hits

from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.columns import HitColumns, Rows, pack_rows
from engine.index.search import Mode, Query, place
from engine.index.stages import Finished
from engine.index.written import WrittenPayload
from engine.types import Hit, Point, Span, SparseVector
from services.retrieval import convert
from services.retrieval.search import encoding
from services.retrieval.search.answering import fill
from services.retrieval.search.running import Answered, Outcome
from tests.engine.index.sealing import install, loaded

DIMENSIONS = 4
PREFIX = "collections/c/documents/"

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**70), 2**70)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)
PLACES = st.integers(-(2**31), 2**31 - 1)
POINTS = st.builds(
    Point,
    id=st.text(min_size=1, max_size=5),
    vector=st.none(),
    text=st.text(max_size=300),
    payload=PAYLOADS,
    document=st.sampled_from(["", "d", "e" * 63]),
    passage_index=PLACES,
    span=st.none() | st.builds(Span, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
)
SCORES = st.floats(width=32, allow_nan=False)


def written(columns: HitColumns, position: int = 0) -> bytes | None:
    """One row, with its text and payload."""
    return write_hits([columns], [((0, position), 1.0)], (), {}, PREFIX, False)


def struct_of(text: bytes) -> struct_pb2.Struct | None:
    """What is written of a payload that is stored as this text."""
    columns = Rows(pack_rows([Point("a", None, payload=WrittenPayload(text))], [1])).hit_columns
    data = written(columns)
    if data is None:
        return None
    return pb.SearchCollectionResponse.FromString(data).hits[0].point.payload


def canonical(message: Any) -> bytes:
    """Tells 0.0 from -0.0, which comparing messages does not."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


@given(st.lists(st.tuples(POINTS, SCORES, st.none() | SCORES), max_size=5), st.booleans())
def test_rows_are_written_as_messages_are(
    given_rows: list[tuple[Point, float, float | None]], bare: bool
) -> None:
    points = [point for point, _, _ in given_rows]
    rows = Rows(pack_rows(points, range(len(points))))
    best = [((0, at), score) for at, (_, score, _) in enumerate(given_rows)]
    sparse = {(0, at): own for at, (_, _, own) in enumerate(given_rows) if own is not None}
    legs = ((3, None), (7, sparse))
    data = write_hits([rows.hit_columns], best, legs, {}, PREFIX, bare)

    response = pb.SearchCollectionResponse()
    hits = [
        Hit(rows.point(at, None), score, score, sparse_score=own)
        for at, (_, score, own) in enumerate(given_rows)
    ]
    convert.add_hits(response, hits, "c", pb.SearchCollectionRequest(ids_only=bare))
    assert data is not None
    assert canonical(pb.SearchCollectionResponse.FromString(data)) == canonical(response)


@given(PAYLOADS, st.booleans())
@example({"n": -0.0, "i": 0, "large": 2**1023, "least": 5e-324, "\0": "\U0001f600\u2028"}, True)
def test_payloads_are_written_as_struct_has_them(payload: dict[str, Any], escaped: bool) -> None:
    text = json.dumps(payload, ensure_ascii=escaped, separators=(",", ":")).encode()
    expected = struct_pb2.Struct()
    expected.update(payload)
    made = struct_of(text)
    assert made is not None
    assert canonical(made) == canonical(expected)


@given(
    st.text('{}[]",:0123456789.eE+-\\/utrfalsnbd8c \0\x1f', max_size=12).map(
        lambda text: f'{{"a":{text}}}'.encode()
    )
    | st.binary(max_size=8).map(lambda some: b'{"a":"' + some + b'"}')
)
@example(b'{"a":1,"a":{"b":2},"a":[]}')
@example(b'{"a":-0}')
def test_what_is_written_of_any_text_is_what_it_says(text: bytes) -> None:
    made = struct_of(text)
    if made is not None:
        expected = struct_pb2.Struct()
        expected.update(json.loads(text))
        assert canonical(made) == canonical(expected)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"a":1}}',
        b'{"a":1,}',
        b'{"a" :1}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":.5}',
        b'{"a":1.}',
        b'{"a":1e}',
        b'{"a":1e999}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"a":tru}',
        b'{"a":nul',
        b'{"a"}',
        b'{"a":}',
        b"{1:2}",
        b'{"a":"b',
        b'{"a":"\\',
        b'{"a":"\\x"}',
        b'{"a":"\\u12g4"}',
        b'{"a":"\\u12',
        b'{"a":"\\ud800"}',
        b'{"a":"\\ud800\\u0041"}',
        b'{"a":"\\udc00\\ud800"}',
        b'{"a":"\n"}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":' + b"[" * 40 + b"]" * 40 + b"}",
    ],
)
def test_a_text_that_is_no_plain_payload_is_left_to_others(text: bytes) -> None:
    assert struct_of(text) is None


@pytest.mark.parametrize("point", [Point("\ud800", None), Point("a", None, "\udfff")])
def test_text_that_is_no_unicode_is_left_to_others(point: Point) -> None:
    assert written(Rows(pack_rows([point], [1])).hit_columns) is None


ROWS = Rows(pack_rows([Point("a", None, "b", {"c": 1}, document="d")], [1])).hit_columns
FAR = np.array([0, 2**40], np.int64)


@pytest.mark.parametrize(
    "columns",
    [
        ROWS._replace(ids_starts=FAR),
        ROWS._replace(texts_starts=FAR),
        ROWS._replace(payloads_starts=FAR),
        ROWS._replace(documents_starts=FAR),
        ROWS._replace(ids_starts=-FAR),
        ROWS._replace(ids_starts=np.array([1, 0], np.int64)),
        ROWS._replace(texts_starts=FAR[:1]),
        ROWS._replace(document=np.array([7], np.int32)),
        ROWS._replace(document=np.array([], np.int32)),
        ROWS._replace(passages=np.array([[1, 2]], np.int32)),
    ],
)
def test_columns_are_read_as_far_as_they_go(columns: HitColumns) -> None:
    assert written(ROWS) is not None
    assert written(columns) is None
    assert written(ROWS, position=1) is None
    assert written(ROWS, position=2**62) is None


def test_columns_of_other_types_and_hits_of_no_row_are_refused() -> None:
    for columns in (
        ROWS._replace(ids_starts=ROWS.ids_starts.astype(np.int32)),
        ROWS._replace(document=ROWS.document.astype(np.uint32)),
        ROWS._replace(passages=np.zeros((1, 6), np.int32)[:, ::2]),
        ROWS._replace(ids_blob=cast(Any, b"a")),
    ):
        with pytest.raises(TypeError):
            written(columns)
    with pytest.raises(IndexError):
        write_hits([ROWS], [((1, 0), 1.0)], (), {}, PREFIX, False)
    with pytest.raises(KeyError):
        write_hits([ROWS, None], [((1, 0), 1.0)], (), {}, PREFIX, False)
    with pytest.raises((OverflowError, TypeError)):
        write_hits([ROWS], [((0, -1), 1.0)], (), {}, PREFIX, False)


def point(number: int) -> Point:
    """Near the point before; every other is a passage, every third has a sparse vector."""
    angle = number / 10
    sparse = SparseVector(np.array([number % 5], np.uint32), np.ones(1, np.float32))
    return Point(
        f"p{number}",
        np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32),
        f"apple {'pear ' * (number % 4)}",
        {"number": number, "tags": ["a", None, {"b": 0.5}]} if number % 4 else {},
        document="d1" if number % 2 else "",
        passage_index=number,
        span=Span(number, number + 5) if number % 2 else None,
        sparse_vector=sparse if number % 3 == 0 else None,
    )


@pytest.fixture(scope="module")
def index() -> CollectionIndex:
    """Two sealed segments and a buffer, in each of which some of the nearest are."""
    made = loaded(IndexSettings(DIMENSIONS), [point(n) for n in range(0, 60, 3)])
    made.apply([point(n) for n in range(1, 60, 3)], [], 2, "b")
    made.freeze()
    work = made.seal_work(quiet=True)
    assert work is not None
    install(made, work)
    made.apply([point(n) for n in range(2, 60, 3)], ["p5", "p6"], 3, "c")
    assert [view.sealed is None for view in made.view.segments] == [False, False, True]
    return made


VECTOR = np.array([1, 0.3, 0, 0], np.float32)
SPARSE = SparseVector(np.array([0, 3], np.uint32), np.array([1, 2], np.float32))


@pytest.mark.parametrize("ids_only", [False, True])
@pytest.mark.parametrize(
    "query",
    [
        {"vector": VECTOR},
        {"text": "pear"},
        {"sparse": SPARSE},
        {"vector": VECTOR, "text": "pear", "sparse": SPARSE},
        {"vector": VECTOR, "score_threshold": 2.0},
    ],
    ids=["dense", "lexical", "sparse", "hybrid", "none"],
)
def test_an_answer_is_the_same_whoever_writes_it(
    index: CollectionIndex, query: dict[str, Any], ids_only: bool
) -> None:
    placed = place(index.view, Query(limit=12, ids_only=ids_only, **query))
    assert ("score_threshold" in query) == (not placed.best)
    answered = Answered(
        placed,
        Outcome.NOT_ASKED,
        placed.explain,
        placed.watermark,
        60,
        1,
        2,
        3,
        0,
        placed.query,
        {},
    )
    assert encoding.hits_bytes(placed, "c") is not None
    written, made = pb.SearchCollectionResponse(), pb.SearchCollectionResponse()
    request = pb.SearchCollectionRequest(ids_only=ids_only)
    fill(written, answered, "c", request)
    fill(made, answered._replace(found=Finished(placed.hits())), "c", request)
    assert canonical(written) == canonical(made)
    assert len(written.hits) == len(placed.best)


def test_payloads_that_are_nested_very_deeply_come_whole() -> None:
    deep: Any = 1
    for _ in range(40):
        deep = [deep]
    made = loaded(IndexSettings(DIMENSIONS), [Point("a", VECTOR, "", {"deep": deep})])
    placed = place(made.view, Query(vector=VECTOR, mode=Mode.DENSE))
    assert encoding.hits_bytes(placed, "c") is None
    answered = Answered(
        placed, Outcome.NOT_ASKED, placed.explain, placed.watermark, 1, 0, 0, 0, 0, placed.query, {}
    )
    response = pb.SearchCollectionResponse()
    fill(response, answered, "c", pb.SearchCollectionRequest())
    expected = struct_pb2.Struct()
    expected.update({"deep": deep})
    assert response.hits[0].point.payload == expected
