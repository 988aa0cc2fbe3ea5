"""A body says the same however the network cuts it, and a form that is broken is never a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import DeadlineExceeded, InvalidField, MalformedMessage
from services.bridge.body import FIELD_BYTES_MAX, FormBody, RawBody, asked_of, merged, unstalled
from services.bridge.convert import Asked, header_message
from services.bridge.uploads import timeout_of

_TYPE = "multipart/form-data; boundary=cut"


def form(fields: dict[str, str], name: str, data: bytes) -> bytes:
    """As browsers write it."""
    parts = [
        f'--cut\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields.items()
    ]
    head = f'--cut\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    return b"".join(
        [*parts, head.encode(), b"Content-Type: text/plain\r\n\r\n", data, b"\r\n--cut--\r\n"]
    )


async def pieces(body: bytes, cuts: list[int]) -> AsyncIterator[bytes]:
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    for start, end in pairwise(places):
        yield body[start:end]


async def read(body: bytes, cuts: list[int]) -> tuple[Asked, bytes]:
    source = FormBody(pieces(body, cuts), _TYPE)
    asked = await source.begin()
    return asked, b"".join([part async for part in source.data()])


_NAMES = st.text(
    st.characters(exclude_categories=["C"], exclude_characters='"\\\r\n;%'), min_size=1, max_size=20
)
_DATA = st.binary(max_size=300).filter(lambda data: b"\r\n--cut" not in b"\r\n" + data)


@given(
    name=_NAMES.filter(lambda name: name == name.strip()),
    uri=_NAMES,
    data=_DATA,
    cuts=st.lists(st.integers(0, 700)),
)
def test_a_form_says_the_same_however_it_is_cut(
    name: str, uri: str, data: bytes, cuts: list[int]
) -> None:
    body = form({"sourceUri": uri, "request_id": "r"}, name, data)
    asked, file = asyncio.run(read(body, cuts))
    assert file == data
    assert asked == Asked(
        display_name=name, source_uri=uri, request_id="r", media_type="text/plain"
    )


@given(data=_DATA, end=st.integers(0, 400))
def test_a_form_that_is_cut_is_no_file(data: bytes, end: int) -> None:
    body = form({"sourceUri": "x"}, "a.txt", data)
    broken = body[: min(end, len(body) - len("--\r\n"))]
    with pytest.raises((InvalidField, MalformedMessage)):
        asyncio.run(read(broken, []))


def test_a_field_is_bounded_and_files_come_last() -> None:
    with pytest.raises(InvalidField, match="needs a filename"):
        asyncio.run(read(form({"payload": "x" * (FIELD_BYTES_MAX + 1)}, "a", b""), []))
    with pytest.raises(InvalidField, match="over 16 fields"):
        asyncio.run(read(form({f"f{number}": "" for number in range(40)}, "a", b""), []))
    with pytest.raises(InvalidField, match="fields come before"):
        first = form({}, "a", b"x").removesuffix(b"--\r\n")
        asyncio.run(read(first + form({"sourceUri": "x"}, "b", b"y")[5:], []))


def test_what_the_query_says_counts_before_the_form_and_the_headers() -> None:
    async def said(content_type: str, disposition: str) -> Asked:
        return await RawBody(pieces(b"", []), content_type, disposition).begin()

    given_by_header = asyncio.run(
        said("text/markdown; charset=utf-8", 'attachment; filename="a.md"')
    )
    assert given_by_header == Asked(media_type="text/markdown", display_name="a.md")
    query = asked_of([("displayName", "b.md")])
    assert merged(query, given_by_header) == Asked(media_type="text/markdown", display_name="b.md")
    encoded = asyncio.run(said("", "attachment; filename*=UTF-8''%e2%82%ac%20rates.md"))
    assert encoded.display_name == "€ rates.md"
    assert asyncio.run(said("application/x-www-form-urlencoded", "")).media_type == ""


def test_a_payload_is_an_object() -> None:
    header = header_message("c", Asked(payload='{"a": {"b": [1, null]}}')).header
    assert header.parent == "collections/c"
    assert json_format.MessageToDict(header.document.payload) == {"a": {"b": [1, None]}}
    for wrong in ("[1]", "{", '"x"', "[" * 5_000):
        with pytest.raises(InvalidField) as caught:
            header_message("c", Asked(payload=wrong))
        assert caught.value.field == "document.payload"


def test_a_sender_that_stops_is_not_waited_for() -> None:
    async def stops() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    async def all_of() -> list[bytes]:
        return [piece async for piece in unstalled(stops(), 0.05)]

    with pytest.raises(DeadlineExceeded, match=r"0\.05 s"):
        asyncio.run(all_of())


@pytest.mark.parametrize(
    ("text", "seconds"), [("30S", 30.0), ("5m", 0.005), ("99999999H", 3_600.0), ("", 3_600.0)]
)
def test_a_deadline_is_read_as_grpc_writes_it(text: str, seconds: float) -> None:
    assert timeout_of({"grpc-timeout": text} if text else {}) == seconds


@pytest.mark.parametrize("text", ["30", "S", "-1S", "1.5S", "123456789S", "30s"])
def test_a_deadline_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidField, match="grpc-timeout"):
        timeout_of({"grpc-timeout": text})
