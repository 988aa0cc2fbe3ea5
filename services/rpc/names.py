"""Resource names: `collections/{id}`, `collections/{id}/documents/{id}`, `ingestJobs/{id}` …"""

from __future__ import annotations

import re
import time
import uuid
from functools import lru_cache
from typing import Final

from engine.errors import InvalidField

ID_FORM: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ID = re.compile(ID_FORM)
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id() -> str:
    """A new id that sorts by time: 48 bits of milliseconds and 80 random bits, as 26 characters
    of Crockford's base 32 in lower case (the form of a ULID)."""
    number = (time.time_ns() // 1_000_000 << 80) | (uuid.uuid4().int >> 48)
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def check_id(value: str, field: str) -> str:
    """Returns an id that callers may choose, or raises InvalidField."""
    if not _ID.fullmatch(value):
        raise InvalidField(
            f"{field} is {_shown(value)}, but an id matches {ID_FORM}: lower-case letters, "
            "digits and hyphens, at most 63.",
            field=field,
            metadata={"field": field, "pattern": ID_FORM},
        )
    return value


@lru_cache(maxsize=4_096)
def parse(name: str, form: str, field: str) -> tuple[str, ...]:
    """The ids in a name. `form` is such as `collections/*/documents/*`. Raises InvalidField."""
    parts, wanted = name.split("/"), form.split("/")
    ids = tuple(p for p, w in zip(parts, wanted, strict=False) if w == "*")
    same = len(parts) == len(wanted) and all(
        w == "*" or p == w for p, w in zip(parts, wanted, strict=True)
    )
    if not same or not all(_ID.fullmatch(i) for i in ids):
        shown = form.replace("*", "{id}")
        raise InvalidField(
            f"{field} is {_shown(name)}, but its form is {shown}, where an id matches {ID_FORM}.",
            field=field,
            metadata={"field": field, "form": shown, "pattern": ID_FORM},
        )
    return ids


def collection_id(name: str, field: str = "name") -> str:
    """The id in `collections/{id}`."""
    return parse(name, "collections/*", field)[0]


def document_ids(name: str, field: str = "name") -> tuple[str, str]:
    """Collection and document id in `collections/{id}/documents/{id}`."""
    collection, document = parse(name, "collections/*/documents/*", field)
    return collection, document


def snapshot_ids(name: str, field: str = "name") -> tuple[str, str]:
    """Collection and snapshot id in `collections/{id}/snapshots/{id}`."""
    collection, snapshot = parse(name, "collections/*/snapshots/*", field)
    return collection, snapshot


def collection_name(collection: str) -> str:
    """`collections/{id}`."""
    return f"collections/{collection}"


def document_name(collection: str, document: str) -> str:
    """`collections/{id}/documents/{id}`."""
    return f"collections/{collection}/documents/{document}"


def snapshot_name(collection: str, snapshot: str) -> str:
    """`collections/{id}/snapshots/{id}`."""
    return f"collections/{collection}/snapshots/{snapshot}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
