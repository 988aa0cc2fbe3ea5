"""Instants of texts: the same as Python's calendar says, and none where the text is not exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.instants import instant_of

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSETS = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda m: timezone(timedelta(minutes=m)))


@given(st.datetimes(), OFFSETS)
def test_instants_are_those_of_the_gregorian_calendar(moment: datetime, offset: timezone) -> None:
    moment = moment.replace(tzinfo=offset)
    expected = (moment - EPOCH) // timedelta(microseconds=1)
    assert instant_of(moment.isoformat()) == expected
    assert instant_of(str(moment)) == expected


@given(st.dates())
def test_a_date_is_its_midnight_in_utc(day: object) -> None:
    assert instant_of(str(day)) == instant_of(f"{day}T00:00:00Z")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00.0000019Z", 1),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01t00:00:01z", 1_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000_000),
        ("0000-01-01", -62_167_219_200_000_000),
        ("1970-01-01T00:00:00-00:00", 0),
    ],
)
def test_what_rfc_3339_says_beyond_python(text: str, expected: int) -> None:
    assert instant_of(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-02-30",
        "2023-02-29",
        "1900-02-29",
        "2024-13-01",
        "2024-00-01",
        "2024-01-00",
        "2024-01-01T00:00:00",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:60:00Z",
        "2024-01-01T00:00:61Z",
        "2024-01-01T00:00:00+24:00",
        "2024-01-01T00:00:00+01:60",
        "2024-01-01T00:00:00+0100",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00Z",
        " 2024-01-01",
        "2024-01-01\n",
        "٢٠٢٤-01-01",
        "2024-01-01T00:00:00." + "0" * 64 + "Z",
    ],
)
def test_what_is_not_exact_is_no_instant(text: str) -> None:
    assert instant_of(text) is None
