"""The words of sealed rows, in arrays that may be mapped from a file, and how tables are merged.

The arrays of a sealed table, with T distinct words, P pairs of a word and a row, n rows:

    words.hashes      uint32[T]    CRC-32 of each word, ascending; equal ones by the words' bytes
    words.terms       uint8[]      the words in that order, in UTF-8, one after the other
    words.term_starts int64[T + 1] where each begins
    words.starts      int64[T + 1] where the rows of each word begin
    words.positions   uint32[P]    the rows of each word, ascending
    words.freqs       uint16[P]    how often the row holds the word, at most 65,535
    words.lengths     uint32[n]    how many words each row has; 0 for one without text

Words are sorted by hash, not by spelling, because a lookup is then one binary search in one array
(0.5 µs) and one comparison of bytes; nobody asks for words in order.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from engine.errors import DataLoss
from engine.index.postings import Flat, Postings, WordBuffer, WordRows

Arrays = dict[str, NDArray[Any]]

_BUILD_ROWS = 10_000  # rows that are sorted at once: about 30 MB where they have 100 words
_STEP = 1 << 20  # postings that a merge handles at once: about 40 MB
_GONE = np.uint32(0xFFFF_FFFF)
_FIELDS = {
    "hashes": np.uint32,
    "terms": np.uint8,
    "term_starts": np.int64,
    "starts": np.int64,
    "positions": np.uint32,
    "freqs": np.uint16,
    "lengths": np.uint32,
}


class WordTable:
    """The words of a sealed segment, read from its arrays, which may be mapped from a file."""

    __slots__ = ("_arrays", "_freqs", "_hashes", "_lengths", "_positions", "_starts", "_terms")

    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Over the arrays that `build` or `merged` made; nothing is copied or read through.

        Raises DataLoss if an array is missing, of another type, or too short for the others.
        """
        found = {
            name: np.asarray(arrays.get(f"words.{name}", np.empty(0, np.bool_))) for name in _FIELDS
        }
        terms, pairs = len(found["hashes"]), len(found["positions"])
        if (
            any(found[name].dtype != dtype for name, dtype in _FIELDS.items())
            or len(found["term_starts"]) != terms + 1
            or len(found["starts"]) != terms + 1
            or len(found["freqs"]) != pairs
            or int(found["starts"][-1]) != pairs
            or int(found["term_starts"][-1]) != len(found["terms"])
        ):
            shapes = ", ".join(f"{name} {one.dtype}[{len(one)}]" for name, one in found.items())
            raise DataLoss(
                f"the words of a segment contradict each other ({shapes}); build it again from "
                "the log",
                metadata={"shapes": shapes},
            )
        self._arrays = found
        self._positions: NDArray[np.uint32] = found["positions"]
        self._freqs: NDArray[np.uint16] = found["freqs"]
        self._lengths: NDArray[np.uint32] = found["lengths"]
        # Items of a memoryview are Python's own numbers, three times as fast to take.
        self._hashes = found["hashes"].data
        self._starts = found["starts"].data
        self._terms = (found["terms"].data, found["term_starts"].data)

    @staticmethod
    def build(rows: Iterable[Sequence[str]]) -> Arrays:
        """The arrays of rows given by their words. Equal rows give equal bytes."""
        tables: list[WordRows] = []
        rest = iter(rows)
        while (batch := list(islice(rest, _BUILD_ROWS))) or not tables:
            buffer = WordBuffer()
            buffer.append(0, batch)
            tables.append(WordTable(merged([(buffer, np.arange(len(batch)))])))
        return merged([(table, np.arange(table.rows)) for table in tables])

    def postings(self, word: str, count: int) -> Postings | None:
        """The rows with the word among the first `count`; None where there are none."""
        wanted = word.encode()
        hashed = crc32(wanted)
        hashes, (blob, term_starts) = self._hashes, self._terms
        term = bisect_left(hashes, hashed)
        while term < len(hashes) and hashes[term] == hashed:
            if blob[term_starts[term] : term_starts[term + 1]] == wanted:
                return self._upto(self._starts[term], self._starts[term + 1], count)
            term += 1
        return None

    def _upto(self, start: int, end: int, count: int) -> Postings | None:
        positions = self._positions[start:end]
        if count < len(self._lengths):
            end = start + int(np.searchsorted(positions, np.uint32(count)))
            positions = positions[: end - start]
        return Postings(positions, self._freqs[start:end]) if len(positions) else None

    def lengths(self, count: int) -> NDArray[np.uint32]:
        """How many words each of the first `count` rows has."""
        return self._lengths[:count]

    def flat(self, count: int) -> Flat:
        """All postings; a sealed segment is read whole. Raises ValueError for fewer rows."""
        if count < len(self._lengths):
            raise ValueError(f"{count} of {len(self._lengths)} sealed rows; ask for all of them")
        blob, starts = self._terms
        terms = [bytes(blob[start:end]) for start, end in pairwise(starts.tolist())]
        return Flat(terms, self._arrays["starts"], self._positions, self._freqs)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._lengths)

    @property
    def nbytes(self) -> int:
        """How many bytes the arrays have."""
        return sum(one.nbytes for one in self._arrays.values())


def merged(sources: Sequence[tuple[WordRows, NDArray[np.integer[Any]]]]) -> Arrays:
    """The arrays of one table out of some rows of several sources.

    Each source comes with the positions of the rows to keep, ascending. They are renumbered 0, 1,
    2 …, source after source. The texts are not needed. Beside the result this takes about 40 MB,
    and 150 bytes a distinct word and source. Raises ValueError for positions that do not ascend.
    """
    parts = []
    first = 0
    for rows, kept in sources:
        parts.append(_Part(rows, kept, first))
        first += len(kept)
    vocabulary: dict[bytes, int] = {}
    for part in parts:
        for term in part.alive():
            vocabulary.setdefault(term, len(vocabulary))
    terms, hashes = _in_order(vocabulary)
    vocabulary.update((term, rank) for rank, term in enumerate(terms))
    totals = np.zeros(len(terms) + 1, np.int64)
    for part in parts:
        part.ranks = np.fromiter((vocabulary[term] for term in part.alive()), np.int64)
        totals[part.ranks + 1] += part.counts[part.counts > 0]
    starts = np.cumsum(totals)
    cursor = starts[:-1].copy()
    positions = np.empty(int(starts[-1]), np.uint32)
    freqs = np.empty(int(starts[-1]), np.uint16)
    for part in parts:
        part.scatter(cursor, positions, freqs)
    term_starts = np.zeros(len(terms) + 1, np.int64)
    np.cumsum([len(term) for term in terms], out=term_starts[1:])
    return {
        "words.hashes": hashes,
        "words.terms": np.frombuffer(b"".join(terms), np.uint8),
        "words.term_starts": term_starts,
        "words.starts": starts,
        "words.positions": positions,
        "words.freqs": freqs,
        "words.lengths": np.concatenate([np.empty(0, np.uint32), *(one.lengths for one in parts)]),
    }


class _Part:
    """One source of a merge: its postings, and what becomes of them."""

    __slots__ = ("counts", "flat", "lengths", "numbers", "ranks")

    def __init__(self, rows: WordRows, kept: NDArray[np.integer[Any]], first: int) -> None:
        if len(kept) and (int(kept[0]) < 0 or not bool(np.all(kept[1:] > kept[:-1]))):
            raise ValueError("the positions to keep do not ascend from 0; sort them")
        count = rows.rows  # once: a buffer may grow meanwhile
        self.lengths = rows.lengths(count)[kept]
        self.flat = rows.flat(count)
        self.numbers = np.full(count, _GONE, np.uint32)
        self.numbers[kept] = np.arange(first, first + len(kept), dtype=np.uint32)
        self.ranks: NDArray[np.int64] = np.empty(0, np.int64)
        self.counts: NDArray[np.int64] = np.zeros(len(self.flat.terms), np.int64)
        for low, high in self._steps():
            start, end = self.flat.starts[low], self.flat.starts[high]
            lives = self.numbers[self.flat.positions[start:end]] != _GONE
            self.counts[low:high] = np.add.reduceat(
                lives, self.flat.starts[low:high] - start, dtype=np.int64
            )

    def alive(self) -> Iterator[bytes]:
        """The words that a kept row has."""
        return (self.flat.terms[index] for index in np.flatnonzero(self.counts).tolist())

    def scatter(
        self,
        cursor: NDArray[np.int64],
        positions: NDArray[np.uint32],
        freqs: NDArray[np.uint16],
    ) -> None:
        """Write the kept postings of each word from its cursor on, and move the cursor."""
        targets = np.zeros(len(self.counts), np.int64)
        alive = self.counts > 0
        targets[alive] = cursor[self.ranks]
        cursor[self.ranks] += self.counts[alive]
        for low, high in self._steps():
            start, end = self.flat.starts[low], self.flat.starts[high]
            numbers = self.numbers[self.flat.positions[start:end]]
            lives = numbers != _GONE
            counts = self.counts[low:high]
            before = np.cumsum(counts) - counts
            places = np.repeat(targets[low:high] - before, counts)
            places += np.arange(len(places))
            positions[places] = numbers[lives]
            freqs[places] = self.flat.freqs[start:end][lives]

    def _steps(self) -> Iterator[tuple[int, int]]:
        """Ranges of words with about `_STEP` postings each, or one word with more."""
        starts, low = self.flat.starts, 0
        while low < len(self.counts):
            high = int(np.searchsorted(starts, starts[low] + _STEP, "right")) - 1
            high = max(low + 1, high)
            yield low, high
            low = high


def _in_order(vocabulary: Iterable[bytes]) -> tuple[list[bytes], NDArray[np.uint32]]:
    """Words by hash, those of equal hash by their bytes; with the hashes."""
    terms = list(vocabulary)
    hashes = np.fromiter(map(crc32, terms), np.uint32, len(terms))
    order = np.argsort(hashes, kind="stable")
    hashes = hashes[order]
    ordered = [terms[index] for index in order.tolist()]
    for at in np.flatnonzero(hashes[1:] == hashes[:-1]).tolist():
        end = int(np.searchsorted(hashes, hashes[at], "right"))
        ordered[at:end] = sorted(ordered[at:end])
    return ordered, hashes
