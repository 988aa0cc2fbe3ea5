"""Which rows to seal and which segments to merge next: pure choices on one view's figures.

Frozen buffers are sealed oldest first, as many as one segment takes. A segment with too many
dead rows is rebuilt without them. Segments of like size are merged, so that sizes grow in tiers and
a point is copied a number of times that grows with the logarithm of the collection. This begins
long before there are too many segments: while a large merge goes on, more are sealed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from engine.index.segment import SegmentView
from engine.index.storage import Storage


class Reason(StrEnum):
    """Why segments are built."""

    SEAL = "seal"
    MERGE = "merge"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class MaintenanceSettings:
    """When segments are built.

    `seal_rows`: rows at which the buffer is frozen and sealed; more of them make searches scan
    longer, fewer make more segments to merge. `quiet_seal_rows`: the same while nobody writes.
    `seal_token_bytes`: token and sparse vectors of the buffer at which it is sealed, however few
    its rows are.
    `segments_few`: segments above which those of like size are merged; `segments_max`: above which
    any are. `merge_width`: how many at a time.
    `dead_share_max`: share of tombstones above which a segment is rebuilt. `segment_rows_max`: no
    merge makes a larger one.
    """

    seal_rows: int = 6_144
    quiet_seal_rows: int = 1_024
    seal_token_bytes: int = 128 << 20
    segments_few: int = 3
    segments_max: int = 8
    merge_width: int = 8
    dead_share_max: float = 0.2
    segment_rows_max: int = 250_000


@dataclass(frozen=True, slots=True)
class Work:
    """Views of buffers or of sealed segments, as they were when the work was chosen, whose living
    rows become one segment. `sealed_seq`: once it is adopted, no living row up to this commit is
    outside of segments."""

    reason: Reason
    sources: tuple[SegmentView, ...]
    sealed_seq: int

    @property
    def rows(self) -> int:
        """Living rows that will be in the segment."""
        return sum(source.live_count for source in self.sources)

    @property
    def retired(self) -> tuple[str, ...]:
        """Names of the segments that go once it is adopted."""
        return tuple(one.sealed.name for one in self.sources if one.sealed is not None)


def choose_merge(
    sealed: Sequence[SegmentView],
    sealed_seq: int,
    settings: MaintenanceSettings,
    *,
    quiet: bool = False,
    spared: Mapping[str, int] = MappingProxyType({}),
    storage: Storage | None = None,
    built_with: tuple[int, int] | None = None,
) -> Work | None:
    """The sealed segments to build anew next, or None if all is well. `quiet`: nobody writes.

    `spared` are segments that were worse when they were built anew, by name, with the tombstones
    they had: they are tried again once these are half as many again. With `storage` and
    `built_with`, segments whose vectors are kept otherwise, or whose graph has another m and
    ef_construction, come first, one by one.
    """
    for segment in sealed:
        file = segment.sealed
        if file is None or file.name in spared:
            continue
        graph = built_with if file.graph is None else file.built_with
        if storage not in (None, file.storage) or built_with not in (None, graph):
            return Work(Reason.COMPACT, (segment,), sealed_seq)
    for segment in sealed:
        name = _name(segment)
        dead_max = max(settings.dead_share_max * segment.count, 1.5 * spared.get(name, 0))
        if segment.tombstones > dead_max:
            return Work(Reason.COMPACT, (segment,), sealed_seq)
    rows_max, width = settings.segment_rows_max, settings.merge_width
    if quiet and (run := _like_sized(sealed, rows_max, len(sealed), _QUIET_RATIO)):
        return Work(Reason.MERGE, run, sealed_seq)
    if len(sealed) <= min(settings.segments_few, settings.segments_max):
        return None
    run = _like_sized(sealed, rows_max, width, _RATIO)
    if not run and len(sealed) > settings.segments_max:
        # Where none are alike, the two smallest: too many segments make each search slower.
        run = _like_sized(sealed, rows_max, 2, rows_max)
    return Work(Reason.MERGE, run, sealed_seq) if run else None


def choose_seal(
    frozen: Sequence[tuple[SegmentView, int]], settings: MaintenanceSettings
) -> Work | None:
    """The buffers to seal next, as many as one segment takes, or None without any.

    `frozen` are frozen buffers with the watermark at which each was frozen, oldest first.
    """
    taken: list[SegmentView] = []
    sealed_seq, rows = 0, 0
    for segment, watermark in frozen:
        if taken and rows + segment.live_count > settings.segment_rows_max:
            break
        taken.append(segment)
        rows += segment.live_count
        sealed_seq = watermark
    return Work(Reason.SEAL, tuple(taken), sealed_seq) if taken else None


def choose_compaction(
    sealed: Sequence[SegmentView],
    sealed_seq: int,
    settings: MaintenanceSettings,
    *,
    full: bool = False,
) -> tuple[Work, ...]:
    """What gives all tombstones back: each segment that has some is built anew. With `full` all of
    them are, into as few as `segment_rows_max` allows. Nothing where nothing would change."""
    if not full:
        works = [Work(Reason.COMPACT, (one,), sealed_seq) for one in sealed if one.tombstones]
        return tuple(works)
    groups: list[list[SegmentView]] = []
    for segment in sorted(sealed, key=lambda one: (-one.live_count, one.rows.seqs[0])):
        for group in groups:
            if (
                sum(one.live_count for one in group) + segment.live_count
                <= settings.segment_rows_max
            ):
                group.append(segment)
                break
        else:
            groups.append([segment])
    return tuple(Work(Reason.COMPACT, tuple(group), sealed_seq) for group in groups)


def _name(segment: SegmentView) -> str:
    return "" if segment.sealed is None else segment.sealed.name


_RATIO = 6
"""Segments are merged if the largest is at most so many times as large as the others together: so
each merge adds a sixth to the largest at least, and a point is copied O(log n) times. Of the
largest nothing is inserted anew: its graph goes on, and copying a row costs a sixth of that."""

_QUIET_RATIO = 64
"""The same while nobody writes, when copying more for one segment fewer is worth it: a search walks
each, and 51,000 rows that were left in two took twice the time."""


def _like_sized(
    sealed: Sequence[SegmentView], rows_max: int, width: int, ratio: int
) -> tuple[SegmentView, ...]:
    """The most of the smallest segments that are worth one in place of several, largest first, or
    none."""
    by_size = sorted(sealed, key=lambda one: (one.live_count, one.rows.seqs[0]))
    for taken in range(min(len(by_size), width), 1, -1):
        rows = [one.live_count for one in by_size[:taken]]
        if sum(rows) <= rows_max and rows[-1] <= ratio * sum(rows[:-1]):
            return tuple(reversed(by_size[:taken]))
    return ()
