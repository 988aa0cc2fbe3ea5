"""JSON and lines of JSON: every value with the way to it, records one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator

from engine.documents.clean import clean
from engine.documents.encoding import decode
from engine.documents.formats import JSON, NDJSON, Hints
from engine.documents.parsed import Draft, Parsed, assemble
from engine.errors import DocumentUnreadable

_DEPTH_MAX = 100
"""Python's reader recurses; so deep does no record go."""


def parse(data: bytes, hints: Hints) -> Parsed:
    """Read .json or .ndjson: `name: value` lines, a paragraph for each record of a list.

    Raises DocumentUnreadable, with the place, for what is no JSON.
    """
    source = decode(data).strip().replace("\x00", "")
    try:
        value = json.loads(source)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:
        return _lines(source, error)
    return assemble("", JSON, _drafts(value))


def _lines(source: str, first: ValueError) -> Parsed:
    """Each line a value; a line that is cut off fails the file, with its number."""
    drafts: list[Draft] = []
    rows = [(number, line) for number, line in enumerate(source.split("\n"), 1) if line.strip()]
    for number, line in rows:
        try:
            drafts += _drafts(json.loads(line))
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError as error:
            alone = number == rows[0][0]
            raise DocumentUnreadable(
                f"the JSON is broken: {first if alone else f'line {number}: {error}'}; mend it, "
                "or send it as text",
                metadata={"line": number, "reason": "broken"},
            ) from error
    return assemble("", NDJSON, drafts)


def _too_deep() -> DocumentUnreadable:
    return DocumentUnreadable(
        f"the JSON nests deeper than {_DEPTH_MAX} levels; flatten it",
        metadata={"bound": _DEPTH_MAX},
    )


def _drafts(value: object) -> Iterator[Draft]:
    """One paragraph for a record, for each of a list of them, and for each branch of a map of
    records."""
    records = value if isinstance(value, list) else [value]
    for record in records:
        lines = "\n".join(_paths(record))
        yield Draft("paragraph", clean(lines, keep_layout=True))


def _paths(value: object) -> Iterator[str]:
    """`a.b: 1` for every leaf, in the file's order; lists of plain values on one line."""
    stack: list[tuple[str, object, int]] = [("", value, 0)]
    while stack:
        path, node, depth = stack.pop()
        if depth > _DEPTH_MAX:
            raise _too_deep()
        if isinstance(node, dict):
            below = [
                (f"{path}.{key}" if path else str(key), child, depth + 1)
                for key, child in node.items()
            ]
            stack += reversed(below)
        elif isinstance(node, list) and any(isinstance(child, dict | list) for child in node):
            stack += reversed([(path, child, depth + 1) for child in node])
        else:
            text = ", ".join(map(_plain, node)) if isinstance(node, list) else _plain(node)
            if text:
                yield f"{path}: {text}" if path else text


def _plain(value: object) -> str:
    if isinstance(value, str):
        return clean(value)
    return "" if value is None else json.dumps(value)
