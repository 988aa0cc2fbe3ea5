"""What users may rely on: every way to cut quotes the document exactly, loses nothing and fits; the
semantic one finds where the subject changes; the hierarchical one has small parts of large ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents import semantic
from engine.documents.chunk import CHILD_SHARE, Strategy, chunk
from engine.documents.parsed import Draft, Parsed, assemble
from engine.documents.semantic import AROUND, likeness, pack_by_meaning
from engine.documents.units import Unit
from engine.types import Matrix, Span
from tests.engine.documents.strategies import documents, merging, without_boilerplate, word_pieces

_COUNTERS = st.sampled_from([word_pieces, merging])


def embed(texts: Sequence[str]) -> Matrix:
    """Vectors by the letters of a text."""
    vectors = np.zeros((len(texts), 32), np.float32)
    for row, text in enumerate(texts):
        for letter in text:
            vectors[row, ord(letter) % 32] += 1
    return vectors


@settings(max_examples=80, deadline=None)
@given(documents(), _COUNTERS, st.sampled_from(["semantic", "hierarchical"]), st.integers(16, 80))
def test_every_way_to_cut_quotes_all_but_boilerplate_and_fits(
    parsed: Parsed,
    count: Callable[[Sequence[str]], list[int]],
    strategy: Strategy,
    tokens_max: int,
) -> None:
    chunks = chunk(
        parsed, count, tokens_max=tokens_max, overlap_tokens=8, strategy=strategy, embed=embed
    )
    searched = without_boilerplate(parsed)
    quoted = [searched[piece.span.start : piece.span.end] for piece in chunks]
    assert "".join("".join(quote.split()) for quote in quoted) == "".join(searched.split())
    for piece, quote in zip(chunks, quoted, strict=True):
        assert quote == parsed.text[piece.span.start : piece.span.end] == quote.strip()
        assert count([quote]) == [piece.tokens] and piece.tokens <= tokens_max
    for piece, following in pairwise(chunks):
        assert piece.span.end <= following.span.start


@settings(max_examples=80, deadline=None)
@given(documents(), st.integers(16, 80), st.integers(0, 8))
def test_parents_are_the_chunks_by_structure(
    parsed: Parsed, tokens_max: int, overlap_tokens: int
) -> None:
    bounds: dict[str, Any] = {"tokens_max": tokens_max, "overlap_tokens": overlap_tokens}
    parents = [piece.span for piece in chunk(parsed, word_pieces, **bounds)]
    children = chunk(parsed, word_pieces, strategy="hierarchical", **bounds)
    assert list(dict.fromkeys(child.parent for child in children)) == parents
    told = [child.parent_text for child in children if child.parent_text]
    assert told == [parsed.text[parent.start : parent.end] for parent in parents]
    for child in children:
        assert child.parent is not None
        assert child.parent.start <= child.span.start < child.span.end <= child.parent.end


def test_children_are_small_and_of_whole_sentences() -> None:
    text = " ".join(f"Sentence number {n} says something of its own." for n in range(60))
    parsed = assemble("", "text/plain", [Draft("paragraph", text)])
    children = chunk(parsed, word_pieces, strategy="hierarchical")
    assert max(child.tokens for child in children) <= CHILD_SHARE * 200
    assert len(children) >= 3 * len({child.parent for child in children})
    for child in children:
        assert text[child.span.start : child.span.end].startswith("Sentence number")


_SUBJECTS = (
    "the zebra grazes on grass in the zone of zebras",
    "quick quotes of quartz are quoted by quants",
    "jolly judges juggle jars of jam in july",
    "a bubble of baby rabbits nibbled bulbs by the hub",
)


def test_semantic_chunks_end_where_the_subject_changes() -> None:
    sentences = [
        f"{subject.capitalize()} {'and so on ' * (n % 2)}."
        for subject in _SUBJECTS
        for n in range(6)
    ]
    parsed = assemble("", "text/plain", [Draft("paragraph", " ".join(sentences))])
    by_subject = {subject.split()[1]: row for row, subject in enumerate(_SUBJECTS)}

    def knowing(texts: Sequence[str]) -> Matrix:
        rows = [next(row for word, row in by_subject.items() if word in text) for text in texts]
        return np.eye(len(_SUBJECTS), dtype=np.float32)[rows]

    chunks = chunk(parsed, word_pieces, strategy="semantic", embed=knowing)
    assert len(chunks) == len(_SUBJECTS)
    for piece, subject in zip(chunks, _SUBJECTS, strict=True):
        text = parsed.text[piece.span.start : piece.span.end]
        assert text.startswith(subject.capitalize()) and text.count(subject.split()[1]) >= 6
    by_structure = chunk(parsed, word_pieces)
    assert {c.span.start for c in by_structure} != {c.span.start for c in chunks}


@st.composite
def _units(draw: st.DrawFn) -> list[Unit]:
    made, at = [], 0
    for index in range(draw(st.integers(0, 9))):
        made.append(
            Unit(Span(at, at + 3), index, draw(st.booleans()), index > 0 and draw(st.booleans()))
        )
        at += 5
    return made


@settings(max_examples=200, deadline=None)
@given(st.data(), _units(), st.integers(1, 12))
def test_no_way_to_cut_is_cheaper(data: st.DataObject, units: list[Unit], tokens_max: int) -> None:
    counts = [data.draw(st.integers(1, 6)) for _ in units]
    likenesses = [data.draw(st.sampled_from([-0.5, 0.1, 0.4, 0.8])) for _ in units]

    def price(runs: Sequence[tuple[int, int]]) -> float:
        return sum(
            semantic._cost_of_ending(units, likenesses, end)
            + semantic._cost_of_shortness(sum(counts[first:end]), tokens_max)
            for first, end in runs
        )

    def fits(first: int, end: int) -> bool:
        alone = end == first + 1
        fenced = any(unit.fenced for unit in units[first + 1 : end])
        return not fenced and (alone or sum(counts[first:end]) <= tokens_max)

    runs = pack_by_meaning(units, counts, likenesses, tokens_max)
    assert [a for run in runs for a in range(*run)] == list(range(len(units)))
    assert all(fits(first, end) for first, end in runs)
    cheapest = float("inf")
    for cuts in range(1 << max(0, len(units) - 1)):
        at = [0, *(n for n in range(1, len(units)) if cuts >> (n - 1) & 1), len(units)]
        other = list(pairwise(at)) if units else []
        if all(fits(first, end) for first, end in other):
            cheapest = min(cheapest, price(other))
    assert price(runs) == pytest.approx(cheapest)


@settings(max_examples=60, deadline=None)
@given(_units(), st.integers(0, 9), st.integers(0, 9))
def test_likenesses_of_a_piece_are_those_of_the_whole(
    units: list[Unit], start: int, step: int
) -> None:
    vectors = np.random.default_rng(3).normal(size=(len(units), 4)).astype(np.float32)
    whole = likeness(units, vectors)
    first, end = max(0, start - AROUND), start + step + AROUND
    piece = likeness(units[first:end], vectors[first:end])[start - first :][:step]
    assert np.allclose(piece, whole[start : start + step])
    assert np.all(np.abs(whole) <= 1 + 1e-6)
