"""Payload columns: which rows of a segment satisfy a filter, without looking at each payload.

State, and what is always true of it:

- Rows are numbered by position, 0, 1, 2 …, and only ever appended. What is said about a row never
  changes, so a reader who knows how many rows its view has can evaluate while one writer appends.
- A `_Series` is two arrays that grow together, published as one tuple: a reader takes the tuple
  once and never sees half an append. Positions in it ascend.
- Each distinct string of a column has an ordinal, in order of first appearance. It is listed
  before any row that uses it is published.
- A path has a column from the first row that has it, or, past `PATHS_MAX` paths, never; paths
  without a column are then evaluated row by row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.index.filters import (
    BOOLEAN,
    NUMBER,
    STRING,
    And,
    Equals,
    Exists,
    Filter,
    In,
    Key,
    Not,
    Or,
    Range,
    key_of,
    matches,
)
from engine.types import JsonValue, Payload, Point

PATHS_MAX = 1_024
"""Columns of one segment. Payloads keyed by, say, user ids would otherwise grow one per user."""

Mask = NDArray[np.bool_]
"""One boolean per row of a segment, shape (rows,)."""


class _Series:
    """Values with the row positions they occur at, append-only."""

    __slots__ = ("state",)

    def __init__(self, dtype: type[np.generic]) -> None:
        self.state: tuple[NDArray[Any], NDArray[np.int32], int] = (
            np.empty(8, dtype),
            np.empty(8, np.int32),
            0,
        )

    def extend(self, values: Sequence[float | int], positions: Sequence[int]) -> None:
        old_values, old_positions, count = self.state
        total = count + len(values)
        if total > len(old_values):
            capacity = max(total, 2 * len(old_values))
            old_values = np.concatenate(
                [old_values, np.empty(capacity - len(old_values), old_values.dtype)]
            )
            old_positions = np.concatenate(
                [old_positions, np.empty(capacity - len(old_positions), np.int32)]
            )
        old_values[count:total] = values
        old_positions[count:total] = positions
        self.state = (old_values, old_positions, total)

    def upto(self, rows: int) -> tuple[NDArray[Any], NDArray[np.int32]]:
        """Values and positions of the first `rows` rows."""
        values, positions, count = self.state
        positions = positions[:count]
        if count and positions[-1] >= rows:
            count = int(np.searchsorted(positions, rows))
        return values[:count], positions[:count]

    @property
    def nbytes(self) -> int:
        values, positions, _ = self.state
        return int(values.nbytes + positions.nbytes)


class _Column:
    """All that one path holds."""

    __slots__ = ("_sorted", "booleans", "numbers", "ordinals", "present", "strings", "words")

    def __init__(self) -> None:
        self.booleans = _Series(np.bool_)
        self.numbers = _Series(np.float64)
        self.strings = _Series(np.int32)
        self.present = _Series(np.bool_)
        self.ordinals: dict[str, int] = {}
        self.words: list[str] = []
        self._sorted: tuple[list[str], NDArray[np.int32]] = ([], np.empty(0, np.int32))

    def ordinal(self, word: str) -> int:
        """The ordinal of a string, given one if it has none."""
        found = self.ordinals.get(word)
        if found is None:
            found = len(self.words)
            self.words.append(word)
            self.ordinals[word] = found
        return found

    def word_table(self, bounds: Range) -> Mask:
        """For each ordinal, whether its string lies in the range."""
        words, order = self._sorted
        known = len(self.words)
        if len(words) < known:
            snapshot = self.words[:known]
            order = np.array(sorted(range(known), key=snapshot.__getitem__), np.int32)
            words = [snapshot[i] for i in order]
            self._sorted = (words, order)  # one assignment: racing readers both win
        low, high = 0, len(words)
        if isinstance(bounds.gt, str):
            low = max(low, bisect_right(words, bounds.gt))
        if isinstance(bounds.gte, str):
            low = max(low, bisect_left(words, bounds.gte))
        if isinstance(bounds.lt, str):
            high = min(high, bisect_left(words, bounds.lt))
        if isinstance(bounds.lte, str):
            high = min(high, bisect_right(words, bounds.lte))
        table = np.zeros(len(words), np.bool_)
        table[order[low:high]] = True
        return table

    @property
    def nbytes(self) -> int:
        series = (self.booleans, self.numbers, self.strings, self.present)
        return sum(one.nbytes for one in series) + 120 * len(self.words)


class PayloadIndex:
    """The columns of one segment. `append` is for one writer, `mask` for any number of readers."""

    def __init__(self, points: Sequence[Point]) -> None:
        """Over the points of a segment, which the owner appends to before it calls `append`."""
        self._points = points
        self._columns: dict[str, _Column] = {}
        self._overflowed = False

    def append(self, first_row: int, payloads: Sequence[Payload]) -> None:
        """Take in the payloads of rows `first_row`, `first_row` + 1, …"""
        batch: dict[tuple[str, int], tuple[list[float | int], list[int]]] = {}
        for row, payload in enumerate(payloads, first_row):
            for path, value in _flatten(payload, None):
                column = self._column(path)
                if column is None or value is None:
                    continue
                kind, code = _PRESENT, 1.0
                if isinstance(value, bool | int | float | str):
                    kind, scalar = key_of(value)
                    code = column.ordinal(scalar) if isinstance(scalar, str) else scalar
                for each in {kind, _PRESENT}:
                    values, rows = batch.setdefault((path, each), ([], []))
                    values.append(code if each == kind else 1.0)
                    rows.append(row)
        for (path, kind), (values, rows) in batch.items():
            column = self._columns[path]
            series = (column.booleans, column.numbers, column.strings, column.present)[kind]
            series.extend(values, rows)

    def _column(self, path: str) -> _Column | None:
        column = self._columns.get(path)
        if column is None:
            if len(self._columns) >= PATHS_MAX:
                self._overflowed = True
                return None
            column = self._columns[path] = _Column()
        return column

    def mask(self, filter: Filter, rows: int) -> Mask:
        """Which of the first `rows` rows satisfy a valid filter."""
        match filter:
            case And(parts):
                out = self.mask(parts[0], rows)
                for part in parts[1:]:
                    if not out.any():
                        break
                    out &= self.mask(part, rows)
                return out
            case Or(parts):
                out = self.mask(parts[0], rows)
                for part in parts[1:]:
                    out |= self.mask(part, rows)
                return out
            case Not(part):
                return ~self.mask(part, rows)
            case _:
                return self._leaf(filter, rows)

    def _leaf(self, leaf: Equals | In | Range | Exists, rows: int) -> Mask:
        out = np.zeros(rows, np.bool_)
        overflowed = self._overflowed  # read before the lookup: columns only ever come to be
        column = self._columns.get(leaf.field)
        if column is None:
            if overflowed:
                for row in range(rows):
                    out[row] = matches(leaf, self._points[row].payload)
            return out
        for positions in _occurrences(column, leaf, rows):
            out[positions] = True
        return out

    @property
    def nbytes(self) -> int:
        """About how much memory the columns take, in bytes."""
        return sum(1_000 + column.nbytes for column in list(self._columns.values()))


_PRESENT = 3
"""Beside the kinds BOOLEAN, NUMBER and STRING: there is a value, of whatever kind."""


def _flatten(value: JsonValue, path: str | None) -> Iterator[tuple[str, JsonValue]]:
    """Every path of a payload with each scalar, null or object it leads to; None is the root."""
    if isinstance(value, Mapping):
        if path is not None:
            yield path, value
        for key, child in value.items():
            yield from _flatten(child, key if path is None else f"{path}.{key}")
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for element in value:
            yield from _flatten(element, path)
    elif path is not None:
        yield path, value


def _occurrences(
    column: _Column, leaf: Equals | In | Range | Exists, rows: int
) -> Iterator[NDArray[np.int32]]:
    match leaf:
        case Exists():
            yield column.present.upto(rows)[1]
        case Range():
            yield _in_range(column, leaf, rows)
        case Equals(_, value):
            yield from _any_of(column, [key_of(value)], rows)
        case In(_, values):
            yield from _any_of(column, [key_of(value) for value in values], rows)


def _any_of(column: _Column, keys: list[Key], rows: int) -> Iterator[NDArray[np.int32]]:
    for kind, series in ((BOOLEAN, column.booleans), (NUMBER, column.numbers)):
        wanted = [value for key_kind, value in keys if key_kind == kind]
        if wanted:
            values, positions = series.upto(rows)
            yield positions[_is_in(values, wanted)]
    words = [column.ordinals.get(str(value)) for kind, value in keys if kind == STRING]
    known = [ordinal for ordinal in words if ordinal is not None]
    if known:
        values, positions = column.strings.upto(rows)
        yield positions[_is_in(values, known)]


def _is_in(values: NDArray[Any], wanted: Sequence[float | int | str]) -> Mask:
    hits: Mask = values == wanted[0] if len(wanted) == 1 else np.isin(values, wanted)
    return hits


def _in_range(column: _Column, bounds: Range, rows: int) -> NDArray[np.int32]:
    given = [bound for bound in (bounds.gt, bounds.gte, bounds.lt, bounds.lte) if bound is not None]
    if isinstance(given[0], str):
        ordinals, positions = column.strings.upto(rows)
        chosen: NDArray[np.int32] = positions[column.word_table(bounds)[ordinals]]
        return chosen
    values, positions = column.numbers.upto(rows)
    hits = np.ones(len(values), np.bool_)
    for bound, compare in (
        (bounds.gt, np.greater),
        (bounds.gte, np.greater_equal),
        (bounds.lt, np.less),
        (bounds.lte, np.less_equal),
    ):
        if bound is not None:
            hits &= compare(values, key_of(bound)[1])
    return positions[hits]
