"""Trees of messages: however they grow, any ancestor is a few looks away."""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from engine.memory.tree import ROOT, Place, grow

GROWTHS = st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 40)), min_size=1, max_size=30)
"""Where each run of messages begins (taken modulo what is there) and how many there are."""


def grown(growths: list[tuple[int, int]]) -> tuple[dict[int, Place], dict[int, int]]:
    """The places that `grow` makes, and the parents that an oracle keeps."""
    places: dict[int, Place] = {}
    parents: dict[int, int] = {}
    for at, count in growths:
        parent = at % (len(places) + 1)
        first = len(places) + 1
        known = chain(places, parent)
        for place in grow(places.get(parent, ROOT), known, first, count):
            places[place.index] = place
        for index in range(first, first + count):
            parents[index] = parent if index == first else index - 1
    return places, parents


def chain(places: dict[int, Place], index: int) -> dict[int, Place]:
    """What the store reads before it appends: a message and where its jumps lead."""
    found: dict[int, Place] = {}
    while index:
        found[index] = places[index]
        index = places[index].jump
    return found


def branch_of(parents: dict[int, int], leaf: int) -> list[int]:
    """The oracle's branch, from its first message on."""
    found = []
    while leaf:
        found.append(leaf)
        leaf = parents[leaf]
    return found[::-1]


def ancestor(leaf: Place, depth: int, look: Callable[[int], Place]) -> Place:
    """The message at `depth` on the branch to `leaf`, as jumps lead there."""
    at = leaf
    while at.depth > depth:
        far = look(at.jump) if at.jump else ROOT
        at = far if far.depth >= depth else look(at.parent)
    return at


@given(GROWTHS)
def test_every_ancestor_is_found_in_a_logarithm_of_looks(growths: list[tuple[int, int]]) -> None:
    places, parents = grown(growths)
    for leaf in {len(places), len(places) // 2 + 1, 1}:
        branch = branch_of(parents, leaf)
        assert places[leaf].depth == len(branch)
        for depth in {1, len(branch) // 2 + 1, len(branch)}:
            looks: list[int] = []

            def look(index: int, looks: list[int] = looks) -> Place:
                looks.append(index)
                return places[index]

            assert ancestor(places[leaf], depth, look).index == branch[depth - 1]
            assert len(looks) <= 6 * math.log2(len(branch) + 2)


def test_a_branch_of_a_hundred_thousand_is_as_near() -> None:
    places = {place.index: place for place in grow(ROOT, {}, 1, 100_000)}
    assert len(chain(places, 100_000)) < 40
    for depth in (1, 2, 777, 50_000, 99_999):
        looks: list[int] = []

        def look(index: int, looks: list[int] = looks) -> Place:
            looks.append(index)
            return places[index]

        assert ancestor(places[100_000], depth, look).index == depth
        assert len(looks) < 100
