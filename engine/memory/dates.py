"""Days that a sentence names, also relative ones: "yesterday", "last Friday", "in two weeks".

A relative day is counted from `now`, when the sentence was said. Weeks begin on Monday. What names
a month or a year means its first day. Each expression is matched by one bounded pattern, so that
the time taken grows with the text alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from engine.types import Span


@dataclass(frozen=True, slots=True)
class Named:
    """A day that is named, as its first instant in UTC, and the characters that name it."""

    day: datetime
    span: Span


_MONTHS = {
    name: number
    for number, names in enumerate(
        (
            "january jan",
            "february feb",
            "march mar",
            "april apr",
            "may",
            "june jun",
            "july jul",
            "august aug",
            "september sep sept",
            "october oct",
            "november nov",
            "december dec",
        ),
        1,
    )
    for name in names.split()
}
_WEEKDAYS = {
    name: number
    for number, name in enumerate(
        ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
    )
}
_COUNTS = {
    word: number
    for number, word in enumerate(
        [
            "one",
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
        ],
        1,
    )
} | {"a": 1, "an": 1, "a couple of": 2, "couple of": 2, "a few": 3}
_DAYS = {"day": 1, "week": 7}
_YEARS = range(1000, 9000)

_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_WEEKDAY = "|".join(_WEEKDAYS)
# Spaces are escaped, which a verbose pattern would pass over.
_COUNT = "|".join(re.escape(one) for one in sorted(_COUNTS, key=len, reverse=True))
_PATTERN = re.compile(
    rf"""\b(?:
      (?P<iso>\d{{4}}-\d\d-\d\d)
    | (?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s(?:of\s)?(?P<month>{_MONTH})\.?(?:,?\s(?P<year>\d{{4}}))?
    | (?P<month2>{_MONTH})\.?\s(?P<day2>\d{{1,2}})(?:st|nd|rd|th)?(?!\d)(?:,?\s(?P<year2>\d{{4}}))?
    | (?P<month3>{_MONTH})\.?,?\s(?:of\s)?(?P<year3>\d{{4}})
    | (?P<near>day\sbefore\syesterday|day\safter\stomorrow|yesterday|today|tonight|tomorrow
        |last\snight|this\s(?:morning|afternoon|evening))
    | (?P<ago>\d{{1,3}}|{_COUNT})\s(?P<ago_unit>day|week|month|year)s?\s(?:ago|earlier)
    | in\s(?:about\s)?(?P<ahead>\d{{1,3}}|{_COUNT})\s(?P<ahead_unit>day|week|month|year)s?\b
    | (?P<which>last|next|this|past|coming)\s
        (?P<what>{_WEEKDAY}|weekend|week|month|year|{_MONTH})\b
    | on\s(?P<weekday>{_WEEKDAY})
    | (?:in|since|until)\s(?P<only_year>(?:19|20)\d\d)
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def named_days(text: str, now: datetime) -> list[Named]:
    """Every day that `text` names, in order. What is no day of the calendar is left out."""
    found = []
    for match in _PATTERN.finditer(text):
        day = _day(match, _midnight(now))
        if day is not None:
            found.append(Named(day, Span(match.start(), match.end())))
    return found


def _midnight(now: datetime) -> datetime:
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _day(match: re.Match[str], today: datetime) -> datetime | None:
    try:
        for reading in _READINGS:
            day = reading(match, today)
            if day is not None:
                return day
    except (ValueError, OverflowError):
        return None  # 31 April, or before the calendar begins
    return None


def _absolute(match: re.Match[str], today: datetime) -> datetime | None:
    if match["iso"]:
        year, month, day = (int(part) for part in match["iso"].split("-"))
        return today.replace(year=year, month=month, day=day)
    for suffix in ("", "2"):
        if match[f"month{suffix}"]:
            number = _MONTHS[match[f"month{suffix}"].lower()]
            day = int(match[f"day{suffix}"])
            if match[f"year{suffix}"]:
                return today.replace(year=_year(match[f"year{suffix}"]), month=number, day=day)
            return _nearest(today, number, day)
    if match["month3"]:
        return today.replace(
            year=_year(match["year3"]), month=_MONTHS[match["month3"].lower()], day=1
        )
    if match["only_year"]:
        return today.replace(year=_year(match["only_year"]), month=1, day=1)
    return None


def _nearest(today: datetime, month: int, day: int) -> datetime:
    """Of the years around today's, the one in which the day is nearest to today."""
    years = (today.year - 1, today.year, today.year + 1)
    days = [today.replace(year=year, month=month, day=day) for year in years]
    return min(days, key=lambda one: abs(one - today))


def _near(match: re.Match[str], today: datetime) -> datetime | None:
    if not match["near"]:
        return None
    words = match["near"].lower()
    if words.startswith("day before"):
        return today - timedelta(days=2)
    if words.startswith("day after"):
        return today + timedelta(days=2)
    if words in ("yesterday", "last night"):
        return today - timedelta(days=1)
    return today + timedelta(days=1) if words == "tomorrow" else today


def _counted(match: re.Match[str], today: datetime) -> datetime | None:
    for group, sign in (("ago", -1), ("ahead", 1)):
        if match[group]:
            word, unit = match[group].lower(), match[f"{group}_unit"].lower()
            count = sign * (int(word) if word.isdigit() else _COUNTS[word])
            if unit in _DAYS:
                return today + timedelta(days=count * _DAYS[unit])
            return _months_on(today, count * (12 if unit == "year" else 1))
    return None


def _months_on(today: datetime, months: int) -> datetime:
    """The same day of another month, or its last one where it has no such day."""
    year, month = divmod(today.year * 12 + today.month - 1 + months, 12)
    for day in range(today.day, 27, -1):
        try:
            return today.replace(year=year, month=month + 1, day=day)
        except ValueError:
            continue
    return today.replace(year=year, month=month + 1, day=min(today.day, 28))


def _relative(match: re.Match[str], today: datetime) -> datetime | None:
    if match["weekday"]:
        return today - timedelta(days=(today.weekday() - _WEEKDAYS[match["weekday"].lower()]) % 7)
    if not match["which"]:
        return None
    which, what = match["which"].lower(), match["what"].lower()
    step = {"last": -1, "past": -1, "this": 0, "coming": 1, "next": 1}[which]
    monday = today - timedelta(days=today.weekday())
    if what in _WEEKDAYS:
        return _weekday(today, _WEEKDAYS[what], step)
    if what == "weekend":
        saturday = monday + timedelta(days=5)
        if step < 0:
            return saturday - timedelta(days=7 if today < saturday + timedelta(days=2) else 0)
        return saturday + timedelta(days=7 * step)
    if what == "week":
        return monday + timedelta(days=7 * step)
    first = today.replace(day=1)
    if what == "month":
        return _months_on(first, step)
    if what == "year":
        return first.replace(year=today.year + step, month=1)
    month = first.replace(month=_MONTHS[what])
    if step < 0 and month >= first:
        return month.replace(year=today.year - 1)
    return month.replace(year=today.year + (step > 0 and month <= first))


def _weekday(today: datetime, weekday: int, step: int) -> datetime:
    """The weekday before today, after it, or of this week."""
    if step < 0:
        return today - timedelta(days=(today.weekday() - weekday - 1) % 7 + 1)
    if step > 0:
        return today + timedelta(days=(weekday - today.weekday() - 1) % 7 + 1)
    return today + timedelta(days=weekday - today.weekday())


def _year(text: str) -> int:
    year = int(text)
    if year not in _YEARS:
        raise ValueError(text)
    return year


_READINGS: tuple[Callable[[re.Match[str], datetime], datetime | None], ...] = (
    _absolute,
    _near,
    _counted,
    _relative,
)
