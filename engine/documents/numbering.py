"""Numbers of a document's passages, which stay with them from version to version."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Sequence


def numbered(
    before: Iterable[tuple[int, bytes]], now: Sequence[bytes], next_number: int
) -> tuple[list[int], int]:
    """A number for each passage of `now`, given as hashes of their texts, and the next free one.

    A passage whose text was there `before`, as (number, hash) in the order of the text, keeps its
    number, the first of equal ones the first; others get new numbers from `next_number` on, which
    no passage of the document ever had.
    """
    free: dict[bytes, deque[int]] = defaultdict(deque)
    for number, digest in before:
        free[digest].append(number)
    numbers = []
    for digest in now:
        if free[digest]:
            numbers.append(free[digest].popleft())
        else:
            numbers.append(next_number)
            next_number += 1
    return numbers, next_number
