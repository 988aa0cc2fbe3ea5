"""Dates as files write them, as ISO 8601."""

from __future__ import annotations

import re

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)?(Z|[+-]\d\d:?\d\d)?)?")
_PDF = re.compile(r"(?:D:)?(\d{4})(\d\d)?(\d\d)?(\d\d)?(\d\d)?(\d\d)?(?:([+-]\d\d)'?(\d\d)?|(Z))?")


def iso(value: object) -> str:
    """A date of a library (whatever prints as ISO 8601), or its text; empty for anything else."""
    found = _ISO.match(str(value or "").strip())
    if not found:
        return ""
    day, clock, zone = found.groups()
    return f"{day}T{clock}{zone or ''}" if clock else day


def pdf_date(value: str) -> str:
    """ "D:20240131120000+01'00'" as "2024-01-31T12:00:00+01:00"; empty for what is no such date."""
    found = _PDF.match(value.strip())
    if not found:
        return ""
    year, month, day, hour, minute, second, zone, zone_minutes, utc = found.groups()
    if not month or not day:
        return str(year)
    date = f"{year}-{month}-{day}"
    if not hour or not minute:
        return date
    offset = "Z" if utc else f"{zone}:{zone_minutes or '00'}" if zone else ""
    return f"{date}T{hour}:{minute}:{second or '00'}{offset}"
