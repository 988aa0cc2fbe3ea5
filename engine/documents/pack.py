"""Which units go together into one chunk, by the structure of the document. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from engine.documents.units import Unit

CHUNK_CHARS_MAX = 20_000
"""Longest chunk in code points, of units beyond the first: twice what 2,048 tokens usually are.
Where a model takes long runs of letters for one unknown token, tokens alone bound nothing."""

_NEW_SECTION_SHARE = 0.33
"""A heading starts a new chunk once the open one holds this share of its tokens."""

_NEW_BLOCK_SHARE = 0.75
"""A paragraph that does not fit in whole starts a new chunk once the open one is this full."""


def pack(
    units: Sequence[Unit], counts: Sequence[int], tokens_max: int, overlap_tokens: int
) -> list[tuple[int, int]]:
    """Which units go together, as ranges [first, end) of indices into `units`.

    `counts` are the tokens of each unit; the sum over a range stays within `tokens_max`, unless
    one unit alone is over it. No range goes over a fence.
    """
    block_tokens: dict[int, int] = {}
    for unit, tokens in zip(units, counts, strict=True):
        block_tokens[unit.block] = block_tokens.get(unit.block, 0) + tokens
    runs: list[tuple[int, int]] = []
    first = fresh = at = total = 0
    while at < len(units):
        if at > fresh and (
            units[at].fenced or _closes(units, counts, first, at, total, tokens_max, block_tokens)
        ):
            end = at if units[at].fenced else _without_headings(units, fresh, at)
            runs.append((first, end))
            first, fresh = _overlap_from(units, counts, first, end, tokens_max, overlap_tokens), end
            at, total = end, sum(counts[first:end])
            continue
        total += counts[at]
        at += 1
    if first < len(units):
        runs.append((first, len(units)))
    return runs


def _closes(
    units: Sequence[Unit],
    counts: Sequence[int],
    first: int,
    at: int,
    total: int,
    tokens_max: int,
    block_tokens: dict[int, int],
) -> bool:
    """Whether the open chunk, which began with units[first], ends before units[at]."""
    unit, before = units[at], units[at - 1]
    if total + counts[at] > tokens_max:
        return True
    if unit.span.end - units[first].span.start > CHUNK_CHARS_MAX:
        return True
    if unit.block == before.block or before.is_heading:
        return False
    if unit.is_heading:
        return total >= _NEW_SECTION_SHARE * tokens_max
    fits = total + block_tokens[unit.block] <= tokens_max
    return not fits and total >= _NEW_BLOCK_SHARE * tokens_max


def _without_headings(units: Sequence[Unit], fresh: int, end: int) -> int:
    """`end` moved before headings that would stand at the end, if something stays."""
    moved = end
    while moved > fresh and units[moved - 1].is_heading:
        moved -= 1
    return moved if moved > fresh else end


def _overlap_from(
    units: Sequence[Unit],
    counts: Sequence[int],
    first: int,
    end: int,
    tokens_max: int,
    overlap_tokens: int,
) -> int:
    """Where the chunk after [first, end) starts: some units before `end`, or `end` itself.

    Nothing is shared across a heading or a fence, and never so much that units[end] would not fit.
    """
    if units[end].is_heading or units[end].fenced:
        return end
    room = min(overlap_tokens, tokens_max - counts[end])
    start, last = end, units[end].span.end
    while start > first + 1 and not units[start - 1].is_heading and counts[start - 1] <= room:
        if last - units[start - 1].span.start > CHUNK_CHARS_MAX:
            break
        start -= 1
        room -= counts[start]
    return start


def first_content(units: Sequence[Unit], first: int, end: int) -> Unit:
    """The first of units[first:end] that is no heading; units[first] where all are."""
    return next((unit for unit in units[first:end] if not unit.is_heading), units[first])
