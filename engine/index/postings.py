"""Which rows hold a word, and how often: how that is read, and the buffer that grows.

A buffer and a sealed `word_table.WordTable` are read alike (`WordRows`), by how many rows the
reader's view has. Rows are numbered by position, 0, 1, 2 …; what is said about one never changes.
Whether a row is live is known to the view alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

FREQUENCY_MAX = 65_535
"""Where a row holds a word more often, this is what is kept."""

_ROW_BITS = np.uint64(32)
_ROW = np.uint64(0xFFFF_FFFF)
_NO_NUMBER = np.uint64(0xFFFF_FFFF_FFFF_FFFF)


class Postings(NamedTuple):
    """The rows of one word: positions, ascending, and how often each holds it (at least 1)."""

    positions: NDArray[np.uint32]
    freqs: NDArray[np.uint16]


class Flat(NamedTuple):
    """All postings, word by word: those of `terms[i]` are `starts[i]` to `starts[i + 1]`, which
    is never empty."""

    terms: list[bytes]
    starts: NDArray[np.int64]
    positions: NDArray[np.uint32]
    freqs: NDArray[np.uint16]


class WordRows(Protocol):
    """What a search and a merge need to know about the words of some rows."""

    @property
    def rows(self) -> int:
        """How many rows there are, of which a view may have fewer."""

    def postings(self, word: str, count: int) -> Postings | None:
        """The rows with the word among the first `count`; None where there are none."""

    def lengths(self, count: int) -> NDArray[np.uint32]:
        """How many words each of the first `count` rows has."""

    def flat(self, count: int) -> Flat:
        """All postings of the first `count` rows."""

    @property
    def nbytes(self) -> int:
        """About how much memory this takes, in bytes; of mapped arrays, how much they could."""


class _Run(NamedTuple):
    """Pairs of a word and a row, ascending: the word's number in the upper half of the key, the
    row in the lower. Written once."""

    keys: NDArray[np.uint64]
    freqs: NDArray[np.uint16]


class _Numbers(dict[str, int]):
    """Words by number, in order of first appearance. Only the writer may ask for an unknown one."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class WordBuffer:
    """Rows that are still being written: one writer appends while any number of readers read.

    Each append sorts its pairs into a run. Where the run before is no larger, the two become one,
    so that there are few, and runs follow each other in the order of their rows. The runs are one
    tuple: a reader takes it once and never sees half an append, and its `count` leaves out what
    came after its view.
    """

    __slots__ = ("_lengths", "_numbers", "_rows", "_runs")

    def __init__(self) -> None:
        self._numbers = _Numbers()
        self._runs: tuple[_Run, ...] = ()
        self._lengths: NDArray[np.uint32] = np.empty(64, np.uint32)
        self._rows = 0

    @property
    def rows(self) -> int:
        """How many rows were appended."""
        return self._rows

    def append(self, first_row: int, texts_words: Sequence[Sequence[str]]) -> None:
        """Take in the words of rows `first_row`, `first_row` + 1, …; without words for no text.

        Rows from `first_row` on that were appended before are forgotten: their commit failed, so
        no view has them. Raises ValueError if `first_row` would leave a gap.
        """
        if not 0 <= first_row <= self._rows:
            raise ValueError(f"row {first_row} does not follow {self._rows} rows; append it next")
        if first_row < self._rows:
            self._runs = tuple(_before(run, first_row) for run in self._runs)
        self._rows = first_row
        count = first_row + len(texts_words)
        if count > len(self._lengths):
            grown = np.empty(max(count, 2 * len(self._lengths)), np.uint32)
            grown[:first_row] = self._lengths[:first_row]
            self._lengths = grown
        lengths = np.array([len(words) for words in texts_words], np.uint32)
        self._lengths[first_row:count] = lengths
        numbers = map(self._numbers.__getitem__, chain.from_iterable(texts_words))
        keys = np.fromiter(numbers, np.uint64, int(lengths.sum(dtype=np.int64)))
        keys <<= _ROW_BITS
        keys |= np.repeat(np.arange(first_row, count, dtype=np.uint64), lengths)
        keys, times = np.unique(keys, return_counts=True)
        new = _Run(keys, np.minimum(times, FREQUENCY_MAX).astype(np.uint16))
        runs = list(self._runs)
        while runs and len(runs[-1].keys) <= len(new.keys):
            new = _joined([runs.pop(), new])
        self._runs = (*runs, new)
        self._rows = count

    def postings(self, word: str, count: int) -> Postings | None:
        """The rows with the word among the first `count`; None where there are none."""
        number = self._numbers.get(word)
        if number is None:
            return None
        first = number << 32
        found = []
        for keys, freqs in self._runs:
            low = bisect_left(keys.data, first)
            high = bisect_left(keys.data, first + count, low)
            if low < high:
                found.append(Postings((keys[low:high] & _ROW).astype(np.uint32), freqs[low:high]))
        if len(found) < 2:
            return found[0] if found else None
        return Postings(*map(np.concatenate, zip(*found, strict=True)))

    def lengths(self, count: int) -> NDArray[np.uint32]:
        """How many words each of the first `count` rows has."""
        return self._lengths[:count]

    def flat(self, count: int) -> Flat:
        """All postings of the first `count` rows, in a copy."""
        keys, freqs = _joined([_before(run, count) for run in self._runs])
        words = list(self._numbers)  # after the runs, which have none that is not listed
        numbers = keys >> _ROW_BITS
        starts = np.flatnonzero(np.diff(numbers, prepend=_NO_NUMBER, append=_NO_NUMBER))
        terms = [words[number].encode() for number in numbers[starts[:-1]].tolist()]
        return Flat(terms, starts.astype(np.int64), (keys & _ROW).astype(np.uint32), freqs)

    @property
    def nbytes(self) -> int:
        """About how much memory this takes, in bytes."""
        pairs = sum(run.keys.nbytes + run.freqs.nbytes for run in self._runs)
        return pairs + 180 * len(self._numbers) + self._lengths.nbytes


def _before(run: _Run, row: int) -> _Run:
    """What a run says of the rows before this one."""
    kept = (run.keys & _ROW) < row
    return run if kept.all() else _Run(run.keys[kept], run.freqs[kept])


def _joined(runs: Sequence[_Run]) -> _Run:
    """One run of several."""
    keys = np.concatenate([np.empty(0, np.uint64), *(run.keys for run in runs)])
    freqs = np.concatenate([np.empty(0, np.uint16), *(run.freqs for run in runs)])
    order = np.argsort(keys, kind="stable")  # which merges what is sorted already
    return _Run(keys[order], freqs[order])
