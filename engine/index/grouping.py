"""Hits by what they belong to: the document they are passages of, or a field of their payloads.

A group stands where its best hit stands. A group of passages carries its parent's span: from the
least start to the greatest end of the passages in it, to read them in one piece.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.types import Hit, JsonValue, Point, Scalar, Span

HITS_PER_GROUP_MAX = 100


@dataclass(frozen=True, slots=True)
class Grouping:
    """`field` is a path into payloads, None to group by document. A group keeps its best
    `hits_per_group`, 1 to `HITS_PER_GROUP_MAX`."""

    field: str | None = None
    hits_per_group: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """`key` is the field's value, or the document's id; `document` is set if all hits are passages
    of one, and `span` then reaches from the first to the last of them. `hits` are the best
    first."""

    key: Scalar
    document: str
    span: Span | None
    hits: tuple[Hit, ...]


def group(hits: Sequence[Hit], grouping: Grouping, limit: int) -> list[Group]:
    """The first `limit` groups of hits that come in order, the best first.

    By document, a point that is no passage is a group of its own, under its id. By field, an array
    counts with its first scalar, and a point without one is left out.
    """
    members: dict[tuple[type, Scalar], list[Hit]] = {}
    for hit in hits:
        key = _key(hit.point, grouping.field)
        if key is None:
            continue
        listed = members.setdefault(key, []) if len(members) < limit else members.get(key)
        if listed is not None and len(listed) < grouping.hits_per_group:
            listed.append(hit)
    return [_group(key, tuple(listed)) for (_, key), listed in members.items()]


def is_full(groups: Sequence[Group], grouping: Grouping, limit: int) -> bool:
    """Whether more hits could change nothing."""
    return len(groups) >= limit and all(len(g.hits) >= grouping.hits_per_group for g in groups)


def _group(key: Scalar, hits: tuple[Hit, ...]) -> Group:
    documents = {hit.point.document for hit in hits}
    spans = [hit.point.span for hit in hits]
    document = documents.pop() if len(documents) == 1 else ""
    span = None
    if document and all(one is not None for one in spans):
        known = [one for one in spans if one is not None]
        span = Span(min(one.start for one in known), max(one.end for one in known))
    return Group(key, document, span, hits)


def _key(point: Point, field: str | None) -> tuple[type, Scalar] | None:
    """With its kind: to Python True and 1 are one key."""
    if field is None:
        return (bytes, point.document) if point.document else (str, point.id)
    value = next(values_at(point.payload, field), None)
    if value is None:
        return None
    if isinstance(value, bool):
        return bool, value
    return (str, value) if isinstance(value, str) else (float, value)


def values_at(value: JsonValue, path: str) -> Iterator[Scalar]:
    """The scalars that a path leads to, arrays taken apart, in order: as conditions read them."""
    if not isinstance(value, Mapping):
        return
    if path in value:
        yield from _scalars(value[path])
    for dot in (i for i, character in enumerate(path) if character == "."):
        if path[:dot] in value:
            for element in _elements(value[path[:dot]]):
                yield from values_at(element, path[dot + 1 :])


def _scalars(value: JsonValue) -> Iterator[Scalar]:
    for element in _elements(value):
        if isinstance(element, bool | int | float | str):
            yield element


def _elements(value: JsonValue) -> Iterator[JsonValue]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        for element in value:
            yield from _elements(element)
    else:
        yield value
