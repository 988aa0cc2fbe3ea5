"""Payload columns: which rows of a segment satisfy a filter, without looking at each payload.

State, and what is always true of it:

- Rows are numbered by position, 0, 1, 2 …, and only ever appended. What is said about a row never
  changes, so a reader who knows how many rows its view has can evaluate while one writer appends.
- A `_Series` is two arrays that grow together, published as one tuple: a reader takes the tuple
  once and never sees half an append. Positions in it ascend.
- Each distinct string of a column has an ordinal, in order of first appearance. It is listed
  before any row that uses it is published.
- A path has a column once a condition looks at it, or, past `PATHS_MAX` paths, never: such paths
  are evaluated row by row. A column is brought up to a view by the first reader who needs it so
  far, one at a time: most payloads are sealed before anybody asks, and writers pay nothing.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.index.conditions import (
    BOOLEAN,
    NUMBER,
    STRING,
    Analyze,
    And,
    DatetimeRange,
    Equals,
    Exists,
    Filter,
    HasAll,
    HasWords,
    In,
    IsNull,
    Key,
    Leaf,
    Not,
    Or,
    Range,
    ValuesCount,
    closed,
    key_of,
    matches,
    plain_words,
    values_at,
    words_of,
)
from engine.index.instants import instant_of
from engine.index.written import values_of
from engine.types import JsonValue, Point

_PRESENT, _INSTANT, _NULL = 3, 4, 5
"""Series beside those of the kinds BOOLEAN, NUMBER and STRING: once for each value that is not
null, of whatever kind; instants in microseconds, of strings that name one; once for each null."""

_DTYPES = (np.bool_, np.float64, np.int32, np.bool_, np.int64, np.bool_)

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
    """All that one path holds in the first `rows` rows."""

    __slots__ = ("_analyzed", "_sorted", "ordinals", "rows", "series", "words")

    def __init__(self) -> None:
        self.rows = 0
        self.series = tuple(_Series(dtype) for dtype in _DTYPES)
        self.ordinals: dict[str, int] = {}
        self.words: list[str] = []
        self._sorted: tuple[list[str], NDArray[np.int32]] = ([], np.empty(0, np.int32))
        self._analyzed: list[frozenset[str]] = []

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

    def text_table(self, leaf: HasWords, analyze: Analyze) -> Mask:
        """For each ordinal, whether its string has the words. Analyzes each string once."""
        analyzed = self._analyzed
        known = len(self.words)
        if len(analyzed) < known:
            fresh = self.words[len(analyzed) : known]
            # A new list in one assignment, as with `_sorted`.
            analyzed = [*analyzed, *(frozenset(analyze(string)) for string in fresh)]
            self._analyzed = analyzed
        wanted = frozenset(words_of(leaf, analyze))
        if leaf.any:
            hits = [not wanted.isdisjoint(words) for words in analyzed]
        else:
            hits = [wanted <= words for words in analyzed]
        return np.array(hits, np.bool_)

    @property
    def nbytes(self) -> int:
        text = 100 * sum(map(len, self._analyzed))
        return sum(one.nbytes for one in self.series) + 120 * len(self.words) + text


class PayloadIndex:
    """The columns of one segment, for any number of readers, while one writer appends points."""

    def __init__(self, points: Sequence[Point], analyze: Analyze = plain_words) -> None:
        """Over the points of a segment, of which readers know how many there are.

        `analyze` takes the strings apart for conditions on words; always the same for one index.
        """
        self._points = points
        self._analyze = analyze
        self._columns: dict[str, _Column] = {}
        self._growing = threading.Lock()

    def _column(self, path: str, rows: int) -> _Column | None:
        """What a path holds in the first `rows` rows, and maybe later ones; None past `PATHS_MAX`
        paths."""
        column = self._columns.get(path)
        if column is not None and column.rows >= rows:
            return column
        with self._growing:
            column = self._columns.get(path)
            if column is None:
                if len(self._columns) >= PATHS_MAX:
                    return None
                column = self._columns[path] = _Column()
            self._grow(column, path, rows)
        return column

    def _grow(self, column: _Column, path: str, rows: int) -> None:
        batch: dict[int, tuple[list[float | int], list[int]]] = {}
        for row in range(column.rows, rows):
            for value in values_at(values_of(self._points[row].payload), path):
                for kind, code in _entries(column, value):
                    values, places = batch.setdefault(kind, ([], []))
                    values.append(code)
                    places.append(row)
        for kind, (values, places) in batch.items():
            column.series[kind].extend(values, places)
        column.rows = max(column.rows, rows)

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

    def _leaf(self, leaf: Leaf, rows: int) -> Mask:
        column = self._column(leaf.field, rows)
        if column is None:
            payloads = (values_of(self._points[row].payload) for row in range(rows))
            return np.array([matches(leaf, one, self._analyze) for one in payloads], np.bool_)
        if isinstance(leaf, ValuesCount):
            return _counted(column, leaf, rows)
        out = np.zeros(rows, np.bool_)
        if isinstance(leaf, HasAll):
            out[:] = True
            for value in leaf.values:
                out &= self._leaf(Equals(leaf.field, value), rows)
            return out
        for positions in _occurrences(column, leaf, rows, self._analyze):
            out[positions] = True
        return out

    @property
    def nbytes(self) -> int:
        """About how much memory the columns take, in bytes."""
        return sum(1_000 + column.nbytes for column in list(self._columns.values()))


def _entries(column: _Column, value: JsonValue) -> list[tuple[int, float | int]]:
    """What a value adds to its path's column: pairs of series and code."""
    if value is None:
        return [(_NULL, True)]
    entries: list[tuple[int, float | int]] = [(_PRESENT, True)]
    if isinstance(value, bool | int | float | str):
        kind, scalar = key_of(value)
        if isinstance(scalar, str):
            entries.append((STRING, column.ordinal(scalar)))
            time = instant_of(scalar)
            if time is not None:
                entries.append((_INSTANT, time))
        else:
            entries.append((kind, scalar))
    return entries


def _counted(column: _Column, leaf: ValuesCount, rows: int) -> Mask:
    first, last = closed(leaf)
    counts: NDArray[np.intp] = np.bincount(column.series[_PRESENT].upto(rows)[1], minlength=rows)
    hits: Mask = (counts >= first) & (counts <= last)
    return hits


def _occurrences(
    column: _Column, leaf: Leaf, rows: int, analyze: Analyze
) -> list[NDArray[np.int32]]:
    """Positions of the rows that satisfy a leaf, each as often as it has a value that does."""
    match leaf:
        case Exists():
            return [column.series[_PRESENT].upto(rows)[1]]
        case IsNull():
            return [column.series[_NULL].upto(rows)[1]]
        case Range():
            return [_in_range(column, leaf, rows)]
        case DatetimeRange():
            first, last = closed(leaf)
            values, positions = column.series[_INSTANT].upto(rows)
            return [positions[(values >= first) & (values <= last)]]
        case HasWords():
            ordinals, positions = column.series[STRING].upto(rows)
            return [positions[column.text_table(leaf, analyze)[ordinals]]]
        case Equals(_, value):
            return _any_of(column, [key_of(value)], rows)
        case In(_, wanted):
            return _any_of(column, [key_of(value) for value in wanted], rows)
    raise AssertionError(f"{leaf!r} is evaluated elsewhere")


def _any_of(column: _Column, keys: list[Key], rows: int) -> list[NDArray[np.int32]]:
    found: list[NDArray[np.int32]] = []
    for kind in (BOOLEAN, NUMBER):
        wanted = [value for key_kind, value in keys if key_kind == kind]
        if wanted:
            values, positions = column.series[kind].upto(rows)
            found.append(positions[_is_in(values, wanted)])
    words = [column.ordinals.get(str(value)) for kind, value in keys if kind == STRING]
    known = [ordinal for ordinal in words if ordinal is not None]
    if known:
        values, positions = column.series[STRING].upto(rows)
        found.append(positions[_is_in(values, known)])
    return found


def _is_in(values: NDArray[Any], wanted: Sequence[float | int | str]) -> Mask:
    hits: Mask = values == wanted[0] if len(wanted) == 1 else np.isin(values, wanted)
    return hits


def _in_range(column: _Column, bounds: Range, rows: int) -> NDArray[np.int32]:
    given = [bound for bound in (bounds.gt, bounds.gte, bounds.lt, bounds.lte) if bound is not None]
    if isinstance(given[0], str):
        ordinals, positions = column.series[STRING].upto(rows)
        chosen: NDArray[np.int32] = positions[column.word_table(bounds)[ordinals]]
        return chosen
    values, positions = column.series[NUMBER].upto(rows)
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
