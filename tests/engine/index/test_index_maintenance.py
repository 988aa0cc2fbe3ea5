"""What users may rely on of maintenance: few segments, whatever is written and however fast."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.index.maintenance import MaintenanceSettings, Work, choose_merge
from engine.index.segment import SegmentView

BOUNDS = MaintenanceSettings()

ROW_S, INSERT_S, FIRST_S, BUILD_S = 25e-6, 150e-6, 80e-6, 0.35
"""Measured on 2 cores at 384 dimensions, m 16, ef_construction 100: to copy a row, to insert it
into a graph of 100,000, to insert it into one of a few thousand, to start a build."""


def _segment(rows: int, number: int) -> SegmentView:
    view = SimpleNamespace(
        live_count=rows,
        count=rows,
        tombstones=0,
        rows=SimpleNamespace(seqs=np.array([number])),
        sealed=None,
    )
    return cast(SegmentView, view)


def _sizes(segments: list[SegmentView]) -> list[int]:
    return sorted(one.live_count for one in segments)


def _merged(segments: list[SegmentView], work: Work) -> list[SegmentView]:
    numbers = [int(one.rows.seqs[0]) for one in work.sources]
    left = [one for one in segments if int(one.rows.seqs[0]) not in numbers]
    return [*left, _segment(work.rows, min(numbers))]


def _chosen(segments: list[SegmentView]) -> Work | None:
    return choose_merge(segments, 1, BOUNDS)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=150))
def test_any_history_of_seals_leaves_few_segments_and_copies_a_row_few_times(
    sizes: list[int],
) -> None:
    segments: list[SegmentView] = []
    copied = 0
    for number, rows in enumerate(sizes):
        segments.append(_segment(rows, number))
        while (work := _chosen(segments)) is not None:
            assert 2 <= len(work.sources) <= max(BOUNDS.merge_width, 2)
            assert work.rows <= BOUNDS.segment_rows_max
            copied += work.rows
            segments = _merged(segments, work)
        if len(segments) > BOUNDS.segments_max:
            # No two of them have room in one.
            assert sum(_sizes(segments)[:2]) > BOUNDS.segment_rows_max
        assert sum(_sizes(segments)) == sum(sizes[: number + 1])
    assert copied <= 16 * sum(sizes)


def _written(seconds: float, per_s: float, slower: float, seed: int) -> tuple[int, int]:
    """Segments and buffered rows after writing for so long, where one thread seals and one merges,
    each `slower` times as slow as alone."""
    chance = random.Random(seed)
    segments: list[SegmentView] = []
    growing = frozen = sealing = number = 0
    sealed_s = merged_s = float("inf")
    merging: Work | None = None
    step_s = 0.1

    def lasts(work_s: float) -> float:
        return work_s * slower * chance.uniform(0.8, 1.2)

    for tick in range(int(seconds / step_s)):
        now_s = tick * step_s
        growing += int(per_s * step_s)
        if growing >= BOUNDS.seal_rows:
            frozen, growing = frozen + growing, 0
        if now_s >= sealed_s:
            segments.append(_segment(sealing, number))
            number, sealing, sealed_s = number + 1, 0, float("inf")
        if merging is not None and now_s >= merged_s:
            segments, merging = _merged(segments, merging), None
        if not sealing and frozen:
            sealing, frozen = frozen, 0
            sealed_s = now_s + lasts(BUILD_S + sealing * (FIRST_S + ROW_S))
        if merging is None and (merging := _chosen(segments)) is not None:
            inserted = merging.rows - max(one.live_count for one in merging.sources)
            merged_s = now_s + lasts(BUILD_S + inserted * INSERT_S + merging.rows * ROW_S)
    return len(segments), growing + frozen + sealing


def test_writing_two_thousand_points_a_second_leaves_few_segments_at_any_time() -> None:
    for seconds in (30, 60, 120, 285, 290, 295, 300, 305, 310, 600):
        segments, buffered = _written(seconds, 2_000, 1.1, seed=seconds)
        assert segments <= BOUNDS.segments_max, seconds
        assert buffered <= 10_000, seconds
