"""Which way to search a segment by vector: scan the rows that count, or walk the graph.

The count of eligible rows (alive and matching the filter) is known exactly before the choice, so
the choice is between two costs. A walk looks for the nearest rows and keeps the eligible ones of
them: where these are a share p of all rows, and independent of the query, it computes about 1/p
times the distances of a walk without a filter. Where the filter is opposed to the query, it would
go through everything that is nearer first. So a walk gets as many visits as a scan would cost, and
is given up for the scan when it has used an eighth of them and met so few eligible rows that the
rest would not do, or when it has used them all.
"""

from __future__ import annotations

DIMENSIONS = 384
"""Of the vectors that the times below are of. What is chosen by them hardly depends on it."""

VISITS_PER_EF = 10.0
"""Distances that a walk computes for each candidate of its beam, at M 16."""

VISIT_NS = 165.0
"""What a visit costs: a row from anywhere in memory."""

FILTERED_BEAM = 3
"""How many times as wide the beam is where a filter leaves fewer than `FILTERED_SHARE`. At the same
width a walk among half of the rows, those that are far from the query, missed 7 of 100 hits."""

FILTERED_SHARE = 0.9
"""Of the living rows. Deleted ones alone do not make a beam wider."""

SCAN_ROW_NS = 75.0
"""What a row costs in a scan of scattered rows, which are fetched ahead."""

SCAN_CODES_NS = 25.0
"""The same where its codes are read first, as they are of most segments."""


def walk_ns(ef: int) -> float:
    """About what a walk with a beam of `ef` costs where every row counts."""
    return VISITS_PER_EF * ef * VISIT_NS


def scan_ns(rows: int, *, coded: bool) -> float:
    """About what a scan of so many rows costs. `coded`: they have codes."""
    return rows * (SCAN_CODES_NS if coded else SCAN_ROW_NS)


def choose(*, count: int, eligible: int, ef: int, coded: bool = False) -> int | None:
    """The cheaper way to the best of `eligible` rows in a graph of `count` rows with a beam of
    `ef`: to walk, and give up after so many distances, or None to scan. `coded`: rows have codes.

    A walk is worth its risk where it should take less than half of a scan's time: some take twice
    what they should, and are given up for the scan after all.
    """
    most_ns = scan_ns(eligible, coded=coded)
    if 2 * walk_ns(ef) * count / max(eligible, 1) >= most_ns:
        return None
    return max(int(most_ns / VISIT_NS), 1)
