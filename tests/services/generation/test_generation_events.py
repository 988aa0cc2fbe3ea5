"""Server-sent events are read the same however the bytes are cut, and none without end."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.generation.providers.sse import EVENT_BYTES_MAX, EventReader, EventTooLarge

STREAM = (
    '\ufeff: a comment\n\nevent: one\ndata: {"a": 1}\n\ndata:no space\r\n\r\n'
    "id: 7\rdata: two\rdata: lines\r\rretry: 9\ndata\ndata: é😀\n\n\n\ndata: never ended"
)
WANTED = ['{"a": 1}', "no space", "two\nlines", "\né😀"]


def read(chunks: list[bytes]) -> list[str]:
    reader = EventReader()
    return [data for chunk in chunks for data in reader.feed(chunk)]


def test_events_are_read_as_the_standard_says() -> None:
    assert read([STREAM.encode()]) == WANTED


@given(st.lists(st.integers(0, len(STREAM.encode())), max_size=30))
def test_it_does_not_matter_where_the_bytes_are_cut(cuts: list[int]) -> None:
    data, places = STREAM.encode(), [0, *sorted(cuts), len(STREAM.encode())]
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert read(pieces) == WANTED


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_other_bytes_raise_nothing_but_what_is_said(chunks: list[bytes]) -> None:
    with contextlib.suppress(EventTooLarge, UnicodeDecodeError):
        read(chunks)


@pytest.mark.parametrize("line", [b"data: ", b": ", b"x"])
def test_a_line_without_end_is_refused_before_it_is_kept(line: bytes) -> None:
    reader = EventReader()
    list(reader.feed(line))
    with pytest.raises(EventTooLarge):
        for _ in range(EVENT_BYTES_MAX // 65_536 + 1):
            list(reader.feed(b"x" * 65_536))


def test_an_event_of_many_lines_is_bounded_too() -> None:
    reader = EventReader()
    with pytest.raises(EventTooLarge):
        for _ in range(EVENT_BYTES_MAX // 1_000 + 1):
            list(reader.feed(b"data: " + b"x" * 1_000 + b"\n"))
