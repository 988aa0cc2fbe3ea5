"""Filters over a sealed segment: the exact set of rows that satisfy one, as a bitmap.

`packing` says what the arrays are. Opening them looks at none; a condition costs a binary search
in its path's values, then the rows between two places: read as they stand, or, for a value that
many rows share, as the bitmap kept for it. Strings are analyzed into words when the first condition
on words of their path comes, and the words of the newest `TEXT_PATHS_MAX` paths are kept.

Everything read from the arrays is read-only, and what is kept besides is only ever replaced whole:
any number of threads may ask at once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from engine.index.columns import Strings, hash_ids
from engine.index.conditions import (
    BOOLEAN,
    INTEGER_MOST,
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
    words_of,
)
from engine.index.files import Array, Arrays
from engine.index.packing import FLAGS, SERIES
from engine.index.roaring import Mask, bitmap_at, bitmap_of, everything, mask_of
from engine.types import Payload

__all__ = ["BitmapIndex", "Mask", "bitmap_at", "bitmap_of", "everything", "mask_of"]

TEXT_PATHS_MAX = 4
"""Paths of a segment whose words are kept; the one analyzed longest ago gives way."""

_UNIONS_MAX = 32
"""Bitmaps up to which their union is faster than setting the rows of all in a mask."""

_NONE = BitMap()

_PRESENT, _NULL, _TRUE, _FALSE = range(len(FLAGS))
_NUMBERS, _INSTANTS, _COUNTS, _WORDS = range(len(SERIES))

Ordinals = NDArray[np.uint32]
"""Of distinct strings of one path, counted from its first."""


@dataclass(frozen=True, slots=True)
class _Column:
    """Where one path's values lie: `spans` are first and last + 1 of each of `SERIES`."""

    index: int
    spans: tuple[tuple[int, int], ...]


class BitmapIndex:
    """The payloads of one segment, for filters. Cheap to open, and to ask from any thread."""

    def __init__(
        self,
        arrays: Arrays,
        payload_of: Callable[[int], Payload],
        analyze: Analyze = plain_words,
    ) -> None:
        """Over the arrays of `packing.pack_payloads`; `payload_of` reads the payload of a row.

        `analyze` takes strings apart for conditions on words; always the same for one collection.
        Raises KeyError for a missing array, ValueError for arrays that do not agree.
        """
        self.count = int(arrays["payload.facts"][0])
        self._payload_of = payload_of
        self._analyze = analyze
        self._paths = Strings(arrays, "payload.paths")
        self._table: NDArray[np.int64] = arrays["payload.table"]
        self._bitmaps = Strings(arrays, "payload.bitmaps")
        self._words = Strings(arrays, "payload.words")
        self._entries: NDArray[np.int64] = arrays["payload.words.entries"]
        self._hashes: NDArray[np.uint64] = arrays["payload.words.hashes"]
        self._hashed: NDArray[np.uint32] = arrays["payload.words.hashed"]
        self._values: list[Array] = [arrays[f"payload.{name}.values"] for name in SERIES[:_WORDS]]
        self._positions: list[Array] = [arrays[f"payload.{name}.positions"] for name in SERIES]
        self._heavy: list[Array] = [arrays[f"payload.{name}.heavy"] for name in SERIES]
        self._texts: dict[int, dict[str, BitMap]] = {}
        self._analyzing = Lock()
        heavies = [len(heavy) for heavy in self._heavy]
        firsts = np.cumsum([1 + len(FLAGS) * len(self._paths), *heavies]).tolist()
        self._first_heavy: list[int] = firsts[:-1]
        if (
            self._table.shape != (len(self._paths) + 1, len(SERIES))
            or len(self._bitmaps) != firsts[-1]
            or len(self._entries) != len(self._words) + 1
            or not len(self._hashes) == len(self._hashed) == len(self._words)
        ):
            raise ValueError("the payload columns of a segment do not agree with each other")

    def matching(self, filter: Filter) -> BitMap:
        """The positions of the rows that satisfy a valid filter, a new bitmap. Its length is
        exactly how many there are."""
        match filter:
            case And(parts):
                return self._all(parts)
            case Or(parts):
                return BitMap.union(*map(self.matching, parts))
            case Not(part):
                return self._complement(self.matching(part))
            case _:
                return self._leaf(filter)

    def _all(self, parts: Iterable[Filter]) -> BitMap:
        found: BitMap | None = None
        denied: list[Filter] = []
        for part in parts:
            if isinstance(part, Not):
                denied.append(part.filter)
                continue
            bitmap = self.matching(part)
            found = bitmap if found is None else found & bitmap
            if not found:
                return found
        if found is None:
            return self._complement(BitMap.union(*map(self.matching, denied)))
        for part in denied:
            found -= self.matching(part)
        return found

    def _complement(self, bitmap: BitMap) -> BitMap:
        return bitmap.flip(0, self.count)

    def _leaf(self, leaf: Leaf) -> BitMap:
        column = self._column(leaf.field)
        if column is not None:
            return self._found(leaf, column)
        missing = everything(self.count) if matches(leaf, {}, self._analyze) else BitMap()
        unread = BitMap.deserialize(self._bitmaps.raw(0))
        hits = (row for row in unread if matches(leaf, self._payload_of(row), self._analyze))
        return (missing - unread) | BitMap(hits) if unread else missing

    def _column(self, field: str) -> _Column | None:
        paths, wanted = self._paths, _utf8(field)
        index = bisect_left(range(len(paths)), wanted, key=paths.raw)
        if index == len(paths) or paths.raw(index) != wanted:
            return None
        begins, ends = self._table[index : index + 2].tolist()
        return _Column(index, tuple(zip(begins, ends, strict=True)))

    def _found(self, leaf: Leaf, column: _Column) -> BitMap:
        match leaf:
            case Equals(_, value):
                return self._any_of(column, [key_of(value)])
            case In(_, values):
                return self._any_of(column, [key_of(value) for value in values])
            case HasAll(_, values):
                keys = sorted({key_of(value) for value in values})
                found = self._any_of(column, keys[:1])
                for key in keys[1:]:
                    if not found:
                        break
                    found &= self._any_of(column, [key])
                return found
            case Range():
                return self._in_range(column, leaf)
            case DatetimeRange():
                return self._between(column, _INSTANTS, *closed(leaf))
            case HasWords():
                return self._of_words(column, self._with_words(column, leaf))
            case Exists():
                return self._flag(column, _PRESENT)
            case IsNull():
                return self._flag(column, _NULL)
            case ValuesCount():
                return self._counted(column, leaf)

    def _flag(self, column: _Column, flag: int) -> BitMap:
        return BitMap.deserialize(self._bitmaps.raw(1 + len(FLAGS) * column.index + flag))

    def _any_of(self, column: _Column, keys: list[Key]) -> BitMap:
        found: list[BitMap] = []
        numbers = [value for kind, value in keys if kind == NUMBER]
        strings = [str(value) for kind, value in keys if kind == STRING]
        found.extend(
            self._flag(column, _TRUE if value else _FALSE)
            for kind, value in keys
            if kind == BOOLEAN
        )
        if numbers:
            first, last = column.spans[_NUMBERS]
            values = self._values[_NUMBERS][first:last]
            lows = np.searchsorted(values, numbers, "left") + first
            highs = np.searchsorted(values, numbers, "right") + first
            found.append(self._slices(_NUMBERS, lows, highs))
        if strings:
            found.append(self._of_words(column, self._ordinals(column, strings)))
        return found[0] if len(found) == 1 else BitMap.union(*found)

    def _ordinals(self, column: _Column, strings: list[str]) -> Ordinals:
        """Of those strings that the path has."""
        first, last = column.spans[_WORDS]
        hashes, hashed = self._hashes[first:last], self._hashed[first:last]
        wanted = hash_ids(strings)
        places = np.searchsorted(hashes, wanted, "left")
        ends = np.searchsorted(hashes, wanted, "right")
        known = np.flatnonzero(places < ends)
        candidates = hashed[places[known]].tolist()
        found: list[int] = []
        for index, ordinal in zip(known.tolist(), candidates, strict=True):
            raw = _utf8(strings[index])
            if self._words.raw(first + ordinal) == raw:
                found.append(ordinal)
                continue
            others = hashed[places[index] + 1 : ends[index]].tolist()  # of the same hash: rare
            found.extend(other for other in others if self._words.raw(first + other) == raw)
        return np.array(found, np.uint32)

    def _of_words(self, column: _Column, ordinals: Ordinals) -> BitMap:
        """The rows with any of these strings."""
        words = ordinals.astype(np.int64) + column.spans[_WORDS][0]
        return self._slices(_WORDS, self._entries[words], self._entries[words + 1])

    def _in_range(self, column: _Column, bounds: Range) -> BitMap:
        lower = bounds.gt if bounds.gte is None else bounds.gte
        upper = bounds.lt if bounds.lte is None else bounds.lte
        if isinstance(lower if upper is None else upper, str):
            low, high = self._words_in(column, bounds)
            return self._slice(_WORDS, int(self._entries[low]), int(self._entries[high]))
        first, last = column.spans[_NUMBERS]
        values = self._values[_NUMBERS][first:last]
        low, high = 0, len(values)
        for bound, side in ((bounds.gt, "right"), (bounds.gte, "left")):
            if bound is not None:
                low = max(low, _place(values, float(key_of(bound)[1]), side))
        for bound, side in ((bounds.lt, "left"), (bounds.lte, "right")):
            if bound is not None:
                high = min(high, _place(values, float(key_of(bound)[1]), side))
        return self._slice(_NUMBERS, first + low, first + high)

    def _words_in(self, column: _Column, bounds: Range) -> tuple[int, int]:
        """The first and last + 1 of the segment's words that lie in the range."""
        low, high = column.spans[_WORDS]
        places, raw = range(high), self._words.raw
        for bound, bisect in ((bounds.gt, bisect_right), (bounds.gte, bisect_left)):
            if isinstance(bound, str):
                low = bisect(places, _utf8(bound), low, key=raw)
        for bound, bisect in ((bounds.lt, bisect_left), (bounds.lte, bisect_right)):
            if isinstance(bound, str):
                high = bisect(places, _utf8(bound), column.spans[_WORDS][0], high, key=raw)
        return low, max(low, high)

    def _counted(self, column: _Column, leaf: ValuesCount) -> BitMap:
        first, last = closed(leaf)
        found = self._between(column, _COUNTS, max(first, 2), last)
        present = self._flag(column, _PRESENT)
        if first <= 1 <= last:
            found |= present - self._between(column, _COUNTS, 2, INTEGER_MOST)
        if first <= 0 <= last:
            found |= self._complement(present)
        return found

    def _between(self, column: _Column, series: int, least: int, most: int) -> BitMap:
        """The rows with an instant or a count from `least` to `most`."""
        first, last = column.spans[series]
        values = self._values[series][first:last]
        low, high = _place(values, least, "left"), _place(values, most, "right")
        return self._slice(series, first + low, first + high)

    def _slice(self, series: int, low: int, high: int) -> BitMap:
        """The rows of the entries `low` to `high` - 1, which begin and end with whole values."""
        positions = self._positions[series]
        if low >= high:
            return BitMap()
        heavy = self._heavy[series]
        first, last = np.searchsorted(heavy[:, 0], (low, high)).tolist()
        if not 0 < last - first <= _UNIONS_MAX:
            return bitmap_at(positions[low:high], self.count)
        at = self._first_heavy[series]
        found = [
            BitMap.deserialize(self._bitmaps.raw(at + number)) for number in range(first, last)
        ]
        edges = [low, *heavy[first:last].ravel().tolist(), high]
        rest = [positions[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
        if rest:
            found.append(bitmap_at(np.concatenate(rest), self.count))
        return BitMap.union(*found)

    def _slices(self, series: int, lows: Array, highs: Array) -> BitMap:
        """The same of several slices, with no entry in two of them."""
        if len(lows) == 1:
            return self._slice(series, int(lows[0]), int(highs[0]))
        lengths = np.maximum(highs - lows, 0)
        total = int(lengths.sum())
        if total > _UNIONS_MAX * 256 and len(lows) <= _UNIONS_MAX:
            pairs = zip(lows.tolist(), highs.tolist(), strict=True)
            return BitMap.union(*(self._slice(series, low, high) for low, high in pairs))
        # The entries of all slices in a row: each slice's first, counted up inside the slice.
        entries = np.repeat(lows - (np.cumsum(lengths) - lengths), lengths) + np.arange(total)
        return bitmap_at(self._positions[series][entries], self.count)

    def _with_words(self, column: _Column, leaf: HasWords) -> Ordinals:
        """The path's strings that have the words of a condition."""
        texts = self._texts.get(column.index)
        if texts is None:
            texts = self._analyzed(column)
        listed = [texts.get(word, _NONE) for word in words_of(leaf, self._analyze)]
        found = BitMap.union(*listed) if leaf.any else BitMap.intersection(*listed)
        return np.frombuffer(found.to_array(), np.uint32)

    def _analyzed(self, column: _Column) -> dict[str, BitMap]:
        """For each word, the path's strings that have it."""
        with self._analyzing:  # seconds for long texts: searches that want the same wait for one
            if column.index in self._texts:
                return self._texts[column.index]
            first, last = column.spans[_WORDS]
            having: dict[str, array[int]] = {}
            for ordinal in range(last - first):
                for word in set(self._analyze(self._words[first + ordinal])):
                    having.setdefault(word, array("I")).append(ordinal)
            texts = {word: BitMap(ordinals) for word, ordinals in having.items()}
            kept = list(self._texts.items())[1 - TEXT_PATHS_MAX :]
            self._texts = {**dict(kept), column.index: texts}
            return texts

    @property
    def nbytes(self) -> int:
        """About how much memory is taken beside the arrays, in bytes."""
        texts = list(self._texts.values())
        return sum(300 + 2 * len(bitmap) for text in texts for bitmap in text.values())


def _place(values: Array, bound: float, side: str) -> int:
    return int(np.searchsorted(values, bound, "left" if side == "left" else "right"))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
