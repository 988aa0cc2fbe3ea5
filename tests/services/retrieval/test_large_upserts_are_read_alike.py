"""A large upsert is read from its bytes, and means what protobuf and the checks say it means."""

from __future__ import annotations

import json
import math
import uuid
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.adapt import PyFormat, Transformer
from ragmesh.api.embedding.v1 import vector_pb2
from ragmesh.api.retrieval.v1 import point_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2 as pb
from ragmesh_native.wire import read_points

from engine.errors import RagmeshError
from engine.index.columns import pack_rows
from engine.index.exact import Metric, prepare_rows
from engine.index.written import WrittenPayload
from engine.types import Point
from services.retrieval.checks import (
    CHECKS,
    PAYLOAD_BYTES_MAX,
    POINT_TEXT_CHARACTERS_MAX,
    POINTS_MAX,
)
from services.retrieval.index.own_writes import Prepared
from services.retrieval.reading import UpsertRead, read_upsert
from services.retrieval.servicer.points import _rows
from services.retrieval.writing import Write, plain_write, write_of
from services.store.collections import Collection
from services.store.points import PointRow

DIMENSIONS = 3

COLLECTION = cast(
    Collection,
    SimpleNamespace(
        tenant="t",
        uid=uuid.uuid4(),
        id="c",
        dimensions=DIMENSIONS,
        metric="cosine",
        vector_storage="float32",
        embedding_model="",
    ),
)

NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**60), 2**60)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)
PAYLOADS = st.dictionaries(st.text(max_size=6), VALUES, max_size=5)
COMPONENTS = st.floats(-1e6, 1e6, width=32)


@st.composite
def _points(draw: Any) -> point_pb2.Point:
    values = draw(st.lists(COMPONENTS, min_size=DIMENSIONS, max_size=DIMENSIONS))
    if draw(st.booleans()):
        vector = vector_pb2.Vector(packed=np.array(values, "<f4").tobytes())
    else:
        vector = vector_pb2.Vector(dense=vector_pb2.DenseVector(values=values))
    made = point_pb2.Point(
        id=draw(st.text(min_size=1, max_size=4)), vector=vector, text=draw(st.text(max_size=20))
    )
    if draw(st.booleans()):
        made.payload.update(draw(PAYLOADS))
    return made


UPSERTS = st.builds(
    pb.UpsertPointsRequest,
    collection=st.sampled_from(["collections/c", "collections/C", ""]),
    points=st.lists(_points(), max_size=6),
    wait=st.booleans(),
    request_id=st.sampled_from(["", str(uuid.uuid4()), "none"]),
    fingerprint=st.text(max_size=5),
)


def _plain(count: int, **fields: Any) -> pb.UpsertPointsRequest:
    vector = vector_pb2.Vector(packed=np.ones(DIMENSIONS, "<f4").tobytes())
    points = [point_pb2.Point(id=f"p{n}", vector=vector, text="a text") for n in range(count)]
    return pb.UpsertPointsRequest(collection="collections/c", points=points, **fields)


def _by_id(rows: list[PointRow]) -> list[PointRow]:
    return sorted({row.id: row for row in rows}.values(), key=lambda row: row.id.encode())


def _sent(write: Write, name: str) -> bytes:
    dumped = Transformer().dump_sequence([write.batch.params[name]], [PyFormat.BINARY])[0]
    assert dumped is not None
    return bytes(dumped)


def _same_write(read: UpsertRead, request: pb.UpsertPointsRequest) -> None:
    """What is written and indexed is what the rows of the message are."""
    rows = _by_id(_rows(request))
    write = plain_write(COLLECTION, read)
    assert write is not None
    assert isinstance(write.own, Prepared)
    slow = write_of(COLLECTION, rows)
    assert write.ids == slow.ids
    for name in ("ids", "texts", "vectors"):
        assert _sent(write, name) == _sent(slow, name)
    assert write.batch.params.keys() == slow.batch.params.keys()
    assert write.batch.params["count"] == len(rows)
    vectors = prepare_rows(Metric.COSINE, DIMENSIONS, [row.vector for row in rows], "points")
    for row, point, vector, wanted in zip(
        rows, write.own.points, write.own.vectors, vectors, strict=True
    ):
        assert isinstance(point.payload, WrittenPayload)
        assert (point.id, point.text, point.payload) == (row.id, row.text, row.payload)
        # Integers stay integers and True is not 1, which equality does not see.
        assert json.dumps(dict(point.payload), sort_keys=True) == json.dumps(
            row.payload, sort_keys=True
        )
        assert wanted is not None
        assert vector.tobytes() == wanted.tobytes()


def _refused(request: pb.UpsertPointsRequest) -> bool:
    try:
        CHECKS[pb.UpsertPointsRequest](request)
        _rows(request)
    except RagmeshError:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(UPSERTS)
def test_what_is_read_is_what_the_message_says(request: pb.UpsertPointsRequest) -> None:
    read = read_upsert(request.SerializeToString())
    if read is None:
        return
    assert not _refused(request)
    assert read.message() == request
    assert (read.collection, read.head.wait) == (request.collection, request.wait)
    assert read.head.request_id == request.request_id
    assert read.head.fingerprint == request.fingerprint
    assert read.points["payload_sizes"] == [one.payload.ByteSize() for one in request.points]
    assert read.canonical() == request.SerializeToString(deterministic=True)
    _same_write(read, request)


@settings(max_examples=300, deadline=None)
@given(UPSERTS, st.data())
def test_damaged_bytes_are_read_as_protobuf_reads_them_or_not_at_all(
    request: pb.UpsertPointsRequest, data: st.DataObject
) -> None:
    whole = bytearray(request.SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        if whole:
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    read = read_upsert(damaged)
    if read is None:
        return
    try:
        parsed = pb.UpsertPointsRequest.FromString(damaged)
    except DecodeError:  # pragma: no cover - what must not be
        raise AssertionError("protobuf refuses what was read") from None
    assert not _refused(parsed)
    if read.points["vectors"].shape[1] == DIMENSIONS:
        _same_write(read, parsed)
    else:
        assert plain_write(COLLECTION, read) is None


def test_ordinary_requests_are_read_from_their_bytes() -> None:
    request = _plain(1000, wait=True, request_id=str(uuid.uuid4()), fingerprint="f")
    for number, point in enumerate(request.points):
        point.payload.update({"n": number, "half": number / 2, "tags": ["a", 'ü\n"\\\x01']})
    request.points.append(request.points[7])
    del request.points[8]
    read = read_upsert(request.SerializeToString())
    assert read is not None
    assert len(read.points["ids"]) == 999
    _same_write(read, request)


def _changed(change: Any) -> pb.UpsertPointsRequest:
    request = _plain(3)
    change(request.points[1])
    return request


@pytest.mark.parametrize(
    "request_",
    [
        pb.UpsertPointsRequest(collection="collections/c"),
        _plain(1001),
        _plain(1, request_id="none"),
        _changed(lambda p: p.ClearField("vector")),
        _changed(lambda p: p.ClearField("id")),
        _changed(lambda p: setattr(p, "id", "x" * 257)),
        _changed(lambda p: setattr(p, "id", "a\nb")),
        _changed(lambda p: setattr(p, "id", "paper#3")),
        _changed(lambda p: setattr(p, "document", "collections/c/documents/d")),
        _changed(lambda p: setattr(p, "text", "a\0b")),
        _changed(lambda p: setattr(p, "text", "ü" * (POINT_TEXT_CHARACTERS_MAX + 1))),
        _changed(lambda p: p.payload.update({"x": math.nan})),
        _changed(lambda p: p.payload.update({"x": [{"y": math.inf}]})),
        _changed(lambda p: p.payload.update({"x": "y" * PAYLOAD_BYTES_MAX})),
        _changed(lambda p: p.payload.fields["x"].Clear()),
        _changed(lambda p: setattr(p.vector, "packed", b"123")),
        _changed(lambda p: setattr(p.vector, "packed", b"")),
        _changed(lambda p: setattr(p.vector, "packed", bytes(12))),
        _changed(lambda p: setattr(p.vector, "packed", np.full(3, np.nan, "<f4").tobytes())),
        _changed(lambda p: setattr(p.vector, "packed", np.full(3, 3e38, "<f4").tobytes())),
        _changed(lambda p: setattr(p.vector, "packed", np.ones(4, "<f4").tobytes())),
    ],
)
def test_what_is_wrong_or_rare_is_left_to_the_checks(request_: pb.UpsertPointsRequest) -> None:
    assert read_upsert(request_.SerializeToString()) is None


def test_a_field_of_a_newer_client_is_left_to_protobuf() -> None:
    known = _plain(2).SerializeToString()
    assert read_upsert(known) is not None
    assert read_upsert(known + b"\xfa\x3e\x01x") is None  # field 1007
    point = _plain(1).points[0].SerializeToString() + b"\xfa\x3e\x01x"
    assert read_upsert(known + b"\x12" + bytes([len(point)]) + point) is None


def test_a_payload_nested_deeply_is_left_to_protobuf() -> None:
    value: dict[str, Any] = {"x": 1}
    for _ in range(30):
        value = {"x": [value]}
    request = _changed(lambda p: p.payload.update(value))
    assert read_upsert(request.SerializeToString()) is None


def test_written_payloads_are_the_dicts_that_they_say() -> None:
    values: dict[str, Any] = {"a": [1, 2.5, None], "b": {"c": "ü"}, "d": True}
    written = WrittenPayload(json.dumps(values).encode())
    assert written == values
    assert values == written
    assert dict(written) == values
    assert (len(written), bool(written), "a" in written, written["b"]) == (
        3,
        True,
        True,
        {"c": "ü"},
    )
    assert not WrittenPayload(b"{}")
    assert repr(written) == repr(values)
    texts = [
        pack_rows([Point("p", None, payload=payload)], [1])["rows.payloads.blob"].tobytes()
        for payload in (values, WrittenPayload(texts_of(values)))
    ]
    assert texts[0] == texts[1]


def texts_of(values: dict[str, Any]) -> bytes:
    """As the builder of a segment writes it."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()


def test_numbers_are_kept_to_the_bit() -> None:
    struct = struct_pb2.Struct()
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -0.0, 1e15, 2**53 + 2.0, -1e22, 1e-7]
    struct.update({"n": numbers})
    request = _plain(1)
    request.points[0].payload.CopyFrom(struct)
    read = read_upsert(request.SerializeToString())
    assert read is not None
    got = json.loads(read.points["payloads"][0])["n"]
    assert [float(value).hex() for value in got] == [(n + 0.0).hex() for n in numbers]
    _same_write(read, request)


def test_a_number_takes_no_more_room_than_its_digits_say() -> None:
    """A double of 309 digits comes in 9 bytes: written out, a request of 16 MiB would take 450."""
    request = _plain(1)
    request.points[0].payload.update({"n": [1.7976931348623157e308, -1e21, 1e20]})
    read = read_upsert(request.SerializeToString())
    assert read is not None
    assert len(read.points["payloads"][0]) < 80
    _same_write(read, request)
    _, _, kept = cast(list[Any], _rows(request)[0].payload["n"])
    assert type(kept) is int


def test_points_beyond_the_most_are_not_read() -> None:
    data = _plain(3).SerializeToString()
    number = pb.UpsertPointsRequest.DESCRIPTOR.fields_by_name["points"].number
    assert read_points(data, number, 3, 100, 100) is not None
    assert read_points(data, number, 2, 100, 100) is None
    most = _plain(POINTS_MAX)
    assert read_upsert(most.SerializeToString()) is not None
    most.points.add().CopyFrom(most.points[0])
    assert read_upsert(most.SerializeToString()) is None
