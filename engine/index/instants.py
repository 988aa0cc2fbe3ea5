"""Instants as text: RFC 3339 to microseconds since 1970-01-01T00:00:00Z, and nothing else.

A text is an instant if it is a date and time with its offset (`2024-02-29T23:30:00.5+01:00`, `Z`
for no offset, a space in place of the `T`), or a date alone, which is its midnight in UTC. A time
without an offset names no instant and is none: whose midnight it means can only be guessed. Days
follow the proleptic Gregorian calendar of the years 0000 to 9999; what a fraction says beyond
microseconds is dropped; second 60 is the second after 59.
"""

from __future__ import annotations

import re

MICROSECONDS = 1_000_000
CHARACTERS_MAX = 64
"""Longer texts are no instants: a fraction of a second is read to its sixth digit."""

_DATE = r"(\d{4})-(\d\d)-(\d\d)"
_TIME = r"(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))"
_INSTANT = re.compile(rf"{_DATE}(?:[Tt ]{_TIME})?", re.ASCII)
_MONTH_DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS_BEFORE_1970 = 719_528
"""From 0000-01-01, where the count below starts."""


def instant_of(text: str) -> int | None:
    """Microseconds since 1970 of an RFC 3339 text; None if it names no instant."""
    # Most strings are no dates, and columns ask for every one: look before matching.
    if not 10 <= len(text) <= CHARACTERS_MAX or text[4] != "-" or text[7] != "-":
        return None
    found = _INSTANT.fullmatch(text)
    if found is None:
        return None
    year, month, day = int(found[1]), int(found[2]), int(found[3])
    if not 1 <= month <= 12 or not 1 <= day <= _days_in(year, month):
        return None
    seconds = (_days_before(year, month) + day - 1 - _DAYS_BEFORE_1970) * 86_400
    if found[4] is None:
        return seconds * MICROSECONDS
    hour, minute, second = int(found[4]), int(found[5]), int(found[6])
    offset_hour, offset_minute = int(found[9] or 0), int(found[10] or 0)
    if hour > 23 or minute > 59 or second > 60 or offset_hour > 23 or offset_minute > 59:
        return None
    seconds += hour * 3_600 + minute * 60 + second
    offset = offset_hour * 3_600 + offset_minute * 60
    seconds += offset if found[8] == "-" else -offset
    return seconds * MICROSECONDS + int((found[7] or "0")[:6].ljust(6, "0"))


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def _days_in(year: int, month: int) -> int:
    return 29 if month == 2 and _is_leap(year) else _MONTH_DAYS[month - 1]


def _days_before(year: int, month: int) -> int:
    """Days from 0000-01-01 to the first of a month."""
    leap_days = (year + 3) // 4 - (year + 99) // 100 + (year + 399) // 400
    earlier = sum(_MONTH_DAYS[: month - 1]) + (month > 2 and _is_leap(year))
    return 365 * year + leap_days + earlier
