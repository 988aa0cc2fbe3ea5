"""Token vectors stay with their rows, from the buffer through every file, and rerank by what they
say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.maintenance import MaintenanceSettings
from engine.index.reranking import TOKENS_WEIGHT, by_tokens
from engine.index.search import Query, search
from engine.index.snapshot import living, read_snapshot, write_snapshot
from engine.index.view import get, stats
from engine.models.late import ANSWER_BYTES_MAX, answer_parts
from engine.types import Hit, Point, TokenVectors
from tests.engine.index.sealing import maintain

WIDTH = 6


def tokens_of(random: np.random.Generator) -> TokenVectors | None:
    """None for some, and for some an empty row."""
    if random.random() < 0.3:
        return None
    rows: TokenVectors = random.integers(-127, 128, (random.integers(0, 5), WIDTH)).astype(np.int8)
    return rows


def said(vectors: TokenVectors | None) -> list[list[int]]:
    """No tokens and none at all are the same."""
    return [] if vectors is None else vectors.tolist()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 5))
def test_tokens_stay_with_their_rows_through_seals_merges_and_deletes(
    seed: int, batches: int
) -> None:
    random = np.random.default_rng(seed)
    bounds = MaintenanceSettings(seal_rows=4, quiet_seal_rows=1, segments_max=1, merge_width=3)
    index = CollectionIndex(IndexSettings(3, maintenance=bounds))
    truth: dict[str, TokenVectors | None] = {}
    for number in range(1, batches + 1):
        ids = [f"p{n}" for n in random.permutation(12)[: random.integers(1, 7)]]
        points = [
            Point(id, random.normal(size=3).astype(np.float32), token_vectors=tokens_of(random))
            for id in ids
        ]
        gone = [f"p{n}" for n in random.permutation(12)[:2] if f"p{n}" not in ids]
        index.apply(points, gone, number, f"c{number}")
        truth = {id: one for id, one in truth.items() if id not in gone}
        truth |= {point.id: point.token_vectors for point in points}
        if random.random() < 0.7:
            maintain(index, quiet=random.random() < 0.5)
        found = {point.id: point.token_vectors for point in get(index.view, truth)}
        assert {id: said(one) for id, one in found.items()} == {
            id: said(one) for id, one in truth.items()
        }
    query = Query(random.normal(size=3).astype(np.float32), limit=12)
    for hit in search(index.view, query).hits:
        assert said(hit.point.token_vectors) == said(truth[hit.point.id])


def test_a_segment_without_tokens_has_no_arrays_for_them(tmp_path: Path) -> None:
    bounds = MaintenanceSettings(seal_rows=2)
    index = CollectionIndex(IndexSettings(3, maintenance=bounds))
    rows = np.eye(3, dtype=np.float32)
    index.apply([Point("a", rows[0]), Point("b", rows[1])], [], 1, "c1")
    maintain(index)
    (segment,) = index.view.segments
    assert segment.sealed is not None
    assert not [name for name in segment.sealed.arrays if name.startswith("tokens.")]
    assert stats(index.view).token_bytes == 0
    some = np.ones((4, WIDTH), np.int8)
    index.apply([Point("c", rows[2], token_vectors=some)], [], 2, "c2")
    assert stats(index.view).token_bytes == 4 * WIDTH
    written = write_snapshot(index.view, tmp_path / "own")
    ((late,),) = read_snapshot(written.path).late_rows()
    assert said(late.token_vectors) == some.tolist()
    assert [point.token_vectors for points, _ in living(segment) for point in points] == [None] * 2


def test_a_buffer_is_sealed_before_its_tokens_fill_the_memory() -> None:
    bounds = MaintenanceSettings(seal_token_bytes=10 * WIDTH)
    index = CollectionIndex(IndexSettings(3, maintenance=bounds))
    for number in range(1, 4):
        assert index.seal_work() is None
        tokens = np.ones((4, WIDTH), np.int8)
        index.apply([Point(f"p{number}", None, "x", token_vectors=tokens)], [], number, "c")
    work = index.seal_work()
    assert work is not None
    assert work.rows == 3


@given(st.integers(0, 10_000), st.integers(1, 8))
def test_the_order_is_the_formulas(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    query = random.integers(-127, 128, (random.integers(1, 4), WIDTH)).astype(np.int8)
    hits = [
        Hit(Point(str(n), None, token_vectors=tokens_of(random)), float(random.normal()))
        for n in range(count)
    ]
    met = []
    for hit in hits:
        rows = hit.point.token_vectors
        if rows is None or not len(rows):
            met.append(math.nan)
            continue
        cosines = [[float(np.dot(q / 127, row / 127)) for row in rows] for q in query]
        met.append(sum(map(max, cosines)) / len(query))
    reranked = by_tokens(hits, query)
    if all(map(math.isnan, met)):
        assert reranked is None
        return
    assert reranked is not None
    wanted = z([hit.score for hit in hits]) + TOKENS_WEIGHT * z(met)
    assert sorted(reranked.order) == list(range(count))
    got = [math.atanh(2 * score - 1) * 2 for score in reranked.scores]
    assert got == pytest.approx([wanted[place] for place in reranked.order], abs=1e-3)
    assert got == pytest.approx(sorted(wanted, reverse=True), abs=1e-3)


def z(values: list[float]) -> NDArray[np.float64]:
    known = np.array([value for value in values if not math.isnan(value)])
    if np.ptp(known) == 0:
        return np.zeros(len(values))
    deviations: NDArray[np.float64] = (np.array(values) - known.mean()) / known.std()
    return np.nan_to_num(deviations, nan=0.0)


@given(st.lists(st.integers(0, 3 * ANSWER_BYTES_MAX // 384), max_size=20), st.integers(1, 6))
def test_parts_are_as_large_as_an_answer_takes(tokens: list[int], texts_max: int) -> None:
    parts = list(answer_parts(tokens, 384, texts_max))
    assert [count for part in parts for count in tokens[part]] == tokens
    for part, after in zip(parts, [*parts[1:], None], strict=False):
        size = sum(tokens[part]) * 384
        length = part.stop - part.start
        assert length == 1 or (length <= texts_max and size <= ANSWER_BYTES_MAX)
        if after is not None:
            more = size + tokens[after.start] * 384
            assert length == texts_max or more > ANSWER_BYTES_MAX, "one more would have fit"
