"""BM25: the rows that fit a query's words best, over any number of parts.

    score(row) = sum over words of  times * idf * f * (k1 + 1) / (f + k1 * (1 - b + b * n / mean))
    idf        = ln(1 + (N - d + 0.5) / (d + 0.5))

with f how often the row has the word, n how many words it has, N the live rows with words, mean
their mean length, d how many of them have the word, times how often the query has it. From
Robertson and Zaragoza, "The probabilistic relevance framework: BM25 and beyond" (2009), with the
idf that is never negative.

A score is a function of the query and the live rows alone: not of deleted rows, nor of how rows
are spread over parts, nor of k or the filter. To the bit, because words are always added in the
same order, the weightiest first, in float64. That order also ends a search early: once the words
to come cannot lift an unseen row among the best k, only rows seen so far are looked up (Turtle
and Flood, "Query evaluation: strategies and optimizations", 1995, call it MaxScore). Common words
have the longest lists and the least weight, so their lists are hardly read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from ragmesh_native import bm25_top, count_live

from engine.index.postings import Postings, WordRows

K1 = 1.5
"""How soon repeating a word stops to count. 0 is at once."""

B = 0.75
"""How much long rows are held back, 0 to 1."""

# The two were chosen on SciFact's train judgments (809 queries) and Cranfield, nDCG@10: 0.6965 and
# 0.4354, where the usual k1 of 1.2 has 0.6965 and 0.4300. With k1 from 0.9 to 1.8 and b from 0.4 to
# 0.9 all lie within 0.006 and 0.029.

Mask = NDArray[np.bool_]
"""One boolean per row of a part, shape (count,)."""

_SAFE = 1.0 - 1e-6
"""Bounds are compared with this much room: more than rounding to float32 and summing can lose."""

_SMALL = 20_000
"""Postings of a query in one part that are all read, in one native call, rather than weighed up."""

_LOOKUP_COST = 16  # looking a row up in a list costs about as much as reading this many of its rows


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are searched: the first `count` of `rows`.

    `live` says which of them exist (None: all), `allowed` which a filter lets through (None: all
    live ones; what is allowed but not live is not found). `documents` and `words` are what
    `live_totals` counts: how many live rows have words, and how many words.
    """

    rows: WordRows
    count: int
    live: Mask | None
    documents: int
    words: int
    allowed: Mask | None = None


class Hits(NamedTuple):
    """Rows of one part, positions ascending, with their scores, all above 0."""

    positions: NDArray[np.uint32]
    scores: NDArray[np.float32]


class _Word(NamedTuple):
    """One word in one part: what it weighs in all of them, and its rows in this one."""

    weight: float  # times * idf
    postings: Postings

    @property
    def gain_max(self) -> float:
        """What no row gets more of."""
        return self.weight * (K1 + 1.0)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A query over some parts, weighed. Safe for any number of threads."""

    parts: Sequence[Part]
    lists: Sequence[Sequence[_Word]]
    mean_length: float

    def top(self, k: int) -> list[Hits]:
        """For each part, its rows among the best `k` (at least 1) of all.

        All rows that tie with the k-th are among them, whose order is the caller's, so there may
        be more than k. A row has a score if it has any word of the query.
        """
        found = []
        best: NDArray[np.float32] = np.empty(0, np.float32)
        floor = 0.0  # the k-th of those found so far; 0 as long as they are fewer
        for part, words in zip(self.parts, self.lists, strict=True):
            found.append(_search(part, words, self.mean_length, k, floor))
            best = _largest(np.concatenate([best, found[-1].scores]), k)
            floor = _lifted(floor, best, k)
        return [Hits(rows[scores >= floor], scores[scores >= floor]) for rows, scores in found]

    def scores(self, part: int, positions: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        """The scores of rows of one part, to the bit as `top` gives them; 0 without any word.

        Positions ascend. Liveness and filters do not matter.
        """
        words = self.lists[part]
        reader = _Reader(self.parts[part], words, self.mean_length)
        rows = positions.astype(np.uint32)
        for word in words:
            reader.add_to(word, rows)
        return reader.scores[rows].astype(np.float32)


def ranking(parts: Sequence[Part], words: Mapping[str, int]) -> Ranking:
    """Weigh the distinct words of a query, each with how often the query has it.

    Looks each word up in each part, which is all that a query of unknown words costs.
    """
    # Where all are live, no list needs to be looked through for those who are not.
    parts = [
        replace(part, live=None) if part.live is not None and part.live.all() else part
        for part in parts
    ]
    documents = sum(part.documents for part in parts)
    mean_length = sum(part.words for part in parts) / max(1, documents)
    weighed: list[tuple[float, str, list[Postings | None]]] = []
    for word, times in words.items():
        found = [part.rows.postings(word, part.count) for part in parts]
        rows = sum(_live_rows(part, postings) for part, postings in zip(parts, found, strict=True))
        if rows:
            idf = log(1.0 + (documents - rows + 0.5) / (rows + 0.5))
            weighed.append((times * idf, word, found))
    # By spelling where weights are equal, so that the order does not depend on the query's.
    weighed.sort(key=lambda one: (-one[0], one[1]))
    lists = [
        [
            _Word(weight, postings)
            for weight, _, found in weighed
            if (postings := found[at]) is not None
        ]
        for at in range(len(parts))
    ]
    return Ranking(parts, lists, mean_length)


def live_totals(lengths: NDArray[np.uint32], live: Mask | None) -> tuple[int, int]:
    """How many live rows have words, and how many words they have together."""
    chosen = lengths if live is None else lengths[live]
    return int(np.count_nonzero(chosen)), int(chosen.sum(dtype=np.int64))


def _live_rows(part: Part, postings: Postings | None) -> int:
    if postings is None:
        return 0
    if part.live is None:
        return len(postings.positions)
    return count_live(postings.positions, part.live)


class _Reader:
    """Scores of one part's rows, as far as they are known."""

    __slots__ = ("base", "lengths", "scores", "slope", "words")

    def __init__(self, part: Part, words: Sequence[_Word], mean_length: float) -> None:
        self.words = words
        self.lengths = part.rows.lengths(part.count)
        self.scores: NDArray[np.float64] = np.zeros(part.count)
        self.base = K1 * (1.0 - B)
        self.slope = K1 * B / mean_length if mean_length else 0.0

    def add(self, weight: float, positions: NDArray[np.uint32], freqs: NDArray[np.uint16]) -> None:
        """Add what a word brings to rows that have it, in the steps of `bm25_top`, to the bit."""
        held = freqs + self.base
        held += self.lengths[positions] * self.slope
        gains = freqs * (weight * (K1 + 1.0))
        gains /= held
        self.scores[positions] += gains

    def add_to(self, word: _Word, rows: NDArray[np.uint32]) -> None:
        """Add what a word brings to these rows, ascending; other rows may come out unfinished."""
        positions, freqs = word.postings
        if len(rows) * _LOOKUP_COST < len(positions):
            places = np.searchsorted(positions, rows)
            places[places == len(positions)] = 0
            places = places[positions[places] == rows]
            positions, freqs = positions[places], freqs[places]
        self.add(word.weight, positions, freqs)


def _search(part: Part, words: Sequence[_Word], mean_length: float, k: int, floor: float) -> Hits:
    """All rows of a part that may be among the best k of all parts.

    `floor` is a bound under the k-th best score, known from elsewhere.
    """
    if not words:
        return Hits(np.empty(0, np.uint32), np.empty(0, np.float32))
    allowed = _found_by(part)
    if sum(len(word.postings.positions) for word in words) <= _SMALL:
        mask = np.ones(part.count, np.bool_) if allowed is None else allowed
        lists = [(*word.postings, word.weight) for word in words]
        lengths = part.rows.lengths(part.count)
        positions, scores = bm25_top(lists, lengths, mean_length, K1, B, mask, k)
        order = np.argsort(positions)
        return Hits(positions[order].astype(np.uint32), scores[order])
    return _search_long(_Reader(part, words, mean_length), allowed, k, floor)


def _search_long(reader: _Reader, allowed: Mask | None, k: int, floor: float) -> Hits:
    """`_search` where lists are long enough for it to pay to end early."""
    words = reader.words
    # left[i]: what the words from i on can give a row together.
    left = np.cumsum([0.0, *(word.gain_max for word in reversed(words))])[::-1].tolist()
    rows = _few(allowed, words)
    for at, (weight, (positions, freqs)) in enumerate(words):
        if rows is None and left[at] < floor * _SAFE:
            # No row without a score comes in any more.
            rows = _at_least(reader.scores, floor * _SAFE - left[at])
        if rows is not None:
            reader.add_to(words[at], rows)
            if len(rows) > k:
                scores = reader.scores[rows]
                floor = _lifted(floor, scores, k)
                rows = rows[scores >= floor * _SAFE - left[at + 1]]
            continue
        if allowed is not None:
            keep = allowed[positions]
            positions, freqs = positions[keep], freqs[keep]
        reader.add(weight, positions, freqs)
        if left[at + 1] < left[0] - left[at + 1]:
            floor = _lifted(floor, reader.scores[positions], k)
    if rows is None:
        rows = _at_least(reader.scores, floor * _SAFE)
    scores = reader.scores[rows]
    floor = _lifted(floor, scores, k)
    chosen = scores >= floor * _SAFE if floor else scores > 0.0
    return Hits(rows[chosen], scores[chosen].astype(np.float32))


def _found_by(part: Part) -> Mask | None:
    """Which rows may be found; None for all."""
    if part.allowed is None or part.live is None:
        return part.live if part.allowed is None else part.allowed
    return part.allowed & part.live


def _few(allowed: Mask | None, words: Sequence[_Word]) -> NDArray[np.uint32] | None:
    """The rows that may be found, where looking each up is cheaper than reading the lists."""
    if allowed is None:
        return None
    pairs = sum(len(word.postings.positions) for word in words)
    if np.count_nonzero(allowed) * _LOOKUP_COST * len(words) >= pairs:
        return None
    return np.flatnonzero(allowed).astype(np.uint32)


def _at_least(scores: NDArray[np.float64], bound: float) -> NDArray[np.uint32]:
    found = scores >= bound if bound > 0.0 else scores > 0.0
    return np.flatnonzero(found).astype(np.uint32)


def _largest(scores: NDArray[np.float32], k: int) -> NDArray[np.float32]:
    return scores if len(scores) <= k else np.partition(scores, len(scores) - k)[-k:]


def _lifted(floor: float, scores: NDArray[np.floating[Any]], k: int) -> float:
    """`floor`, or the k-th largest of the scores if that is more."""
    if floor:
        scores = scores[scores > floor]  # a small part of them as a rule, and selecting costs more
    if len(scores) < k:
        return floor
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])
