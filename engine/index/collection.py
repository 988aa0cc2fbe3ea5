"""The index of one collection: one writer, any number of readers, nobody waits for a search.

State, and what is always true of it:

- `view` is the present state. `apply` and `adopt` make a new `View` and swap the reference; readers
  take it once per search.
- A row is known by its id and the number of the commit that wrote it. An id is alive in one place
  at most: in a sealed segment, or in one of the buffers.
- Buffers, oldest first: any number that are frozen, then one that grows. The growing one is frozen
  when it reaches `seal_rows`. All of them are searched by scanning.
- Sealed segments are adopted and retired together, by name. What is alive in an adopted segment is
  exactly what lived in the retired ones and in the buffers with the same id and commit: so an index
  that built the segment and one that fetched it become equal.
- Building is the owner's to schedule: `seal_work` and `merge_work` name the next pieces, which
  have nothing to do with each other.

`apply`, `adopt` and `seal_work` exclude each other by a lock, so the owner may call them from
different threads; searches never take it.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.errors import DataLoss, InvalidField
from engine.index.buffer import Buffer
from engine.index.columns import Hashes, hash_ids
from engine.index.exact import Metric, prepare_rows
from engine.index.graph import GraphSettings
from engine.index.maintenance import (
    MaintenanceSettings,
    Work,
    choose_compaction,
    choose_merge,
    choose_seal,
)
from engine.index.payloads import Mask
from engine.index.sealed import Sealed, open_sealed
from engine.index.segment import SegmentView
from engine.index.storage import Storage, precise_vectors
from engine.index.view import View
from engine.index.words import Analyzer
from engine.types import Matrix, Point, Vector

DIMENSIONS_MAX = 4_096


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What a collection's index is made with."""

    dimensions: int
    metric: Metric = Metric.COSINE
    language: str = "en"
    storage: Storage = Storage.FLOAT32
    graph: GraphSettings = field(default_factory=GraphSettings)
    maintenance: MaintenanceSettings = field(default_factory=MaintenanceSettings)

    def __post_init__(self) -> None:
        """Raises InvalidField for settings out of range."""
        for name, value, least, most in (
            ("dimensions", self.dimensions, 1, DIMENSIONS_MAX),
            ("m", self.graph.m, 2, 128),
            ("ef_construction", self.graph.ef_construction, 4, 4_096),
            ("ef_search", self.graph.ef_search, 1, 4_096),
        ):
            if not least <= value <= most:
                raise InvalidField(
                    f"{name} is {value}; give {least} to {most}",
                    field=name,
                    metadata={"name": name, "value": value, "least": least, "most": most},
                )


class CollectionIndex:
    """See the module."""

    def __init__(self, settings: IndexSettings) -> None:
        """Empty, at watermark 0."""
        self.settings = settings
        self._lock = threading.RLock()
        self._analyzer = Analyzer(settings.language)
        self._buffer = self._new_buffer()
        self._frozen_at: dict[int, int] = {}
        self._sealed_seq = 0
        self._spared: dict[str, int] = {}
        self._view = self._new_view((), 0, "")

    @property
    def view(self) -> View:
        """The present state. Take it once and search it: `search(index.view, query)`."""
        return self._view

    @property
    def sealed_seq(self) -> int:
        """Living rows of later commits are in buffers, all others in segments."""
        return self._sealed_seq

    @property
    def segments(self) -> tuple[str, ...]:
        """The names of the sealed segments."""
        return tuple(one.sealed.name for one in self._view.segments if one.sealed is not None)

    def restore(
        self,
        segments: Sequence[tuple[Sealed, Mask]],
        sealed_seq: int,
        watermark: int,
        change_id: str,
    ) -> None:
        """Fill an empty index with segments and which of their rows live. The buffer's rows, those
        of commits after `sealed_seq`, come by `apply`. ValueError if the index was not empty."""
        with self._lock:
            if self._view.segments:
                raise ValueError("restore needs an empty index")
            self._sealed_seq = sealed_seq
            self._view = self._new_view(
                [SegmentView.of(one, live) for one, live in segments], watermark, change_id
            )

    def apply(
        self,
        upserts: Sequence[Point],
        deletes: Sequence[str],
        watermark: int,
        change_id: str,
        *,
        seqs: Sequence[int] | None = None,
        vectors: Matrix | None = None,
        adopted: Sequence[Sealed] = (),
        retired: Collection[str] = (),
        sealed_seq: int | None = None,
    ) -> None:
        """Make a batch of changes visible, all at once.

        Deletes come first, then upserts, of which the last of an id wins; deleting what does not
        exist is nothing. `seqs` are the commits that wrote the upserts, `watermark` by default;
        `vectors`, of `prepare_matrix`, what they have in place of vectors of their own.
        Then segments are adopted and retired. `watermark` must not fall (ValueError). Raises
        DimensionMismatch or InvalidVector before anything has changed, and DataLoss, with nothing
        changed, where a retired segment has a living row that no adopted one has.
        """
        settings = self.settings
        prepared: Sequence[Vector | None] | Matrix | None = vectors
        if prepared is None:
            given = [point.vector for point in upserts]
            prepared = prepare_rows(settings.metric, settings.dimensions, given, "points")
        prepared = precise_vectors(settings.storage, prepared)
        words = [self._analyzer.words(point.text) if point.text else [] for point in upserts]
        with self._lock:
            if watermark < self._view.watermark:
                raise ValueError(
                    f"watermark {watermark} is below the present {self._view.watermark}"
                )
            last = {point.id: place for place, point in enumerate(upserts)}
            chosen = sorted(last.values())
            before = self._view.segments
            segments = _without(before, {*deletes, *last})
            written = [watermark] * len(upserts) if seqs is None else seqs
            if len(chosen) == len(upserts) and chosen:
                self._buffer.append(upserts, prepared, words, written)
            elif chosen:
                self._buffer.append(
                    [upserts[place] for place in chosen],
                    [prepared[place] for place in chosen],
                    [words[place] for place in chosen],
                    [written[place] for place in chosen],
                )
            if chosen:
                segments = self._with_appended(segments, len(chosen))
            if adopted or retired:
                segments = _adopted(segments, adopted, retired)
            if sealed_seq is not None:
                self._sealed_seq = sealed_seq
            self._view = self._new_view(self._tidied(segments), watermark, change_id)
            maintenance = self.settings.maintenance
            if (
                self._buffer.count >= maintenance.seal_rows
                or self._buffer.token_bytes + self._buffer.sparse_bytes
                >= maintenance.seal_token_bytes
            ):
                self._freeze()

    def adopt(self, adopted: Sequence[Sealed], retired: Collection[str], sealed_seq: int) -> None:
        """Swap segments in and out between commits. Raises DataLoss as `apply` does."""
        with self._lock:
            view = self._view
            self.apply(
                (),
                (),
                view.watermark,
                view.change_id,
                adopted=adopted,
                retired=retired,
                sealed_seq=sealed_seq,
            )

    def freeze(self) -> None:
        """Have the buffer sealed next, however few rows it has."""
        with self._lock:
            if self._buffer.count:
                self._freeze()

    def seal_work(self, *, quiet: bool = False) -> Work | None:
        """The buffers to seal next; None if none waits. `quiet` says that nobody writes, so that
        a smaller one is worth it. The same again until a segment with its rows was adopted."""
        with self._lock:
            if quiet and self._buffer.count >= self.settings.maintenance.quiet_seal_rows:
                self._freeze()
            return choose_seal(self._frozen(), self.settings.maintenance)

    def merge_work(self, *, quiet: bool = False) -> Work | None:
        """The segments to build anew next; None if all is well."""
        sealed = [one for one in self._view.segments if one.sealed is not None]
        return choose_merge(
            sealed,
            self._sealed_seq,
            self.settings.maintenance,
            quiet=quiet,
            spared=self._spared,
            storage=self.settings.storage,
            built_with=(self.settings.graph.m, self.settings.graph.ef_construction),
        )

    def compaction(self, *, full: bool = False) -> tuple[Work, ...]:
        """What gives all tombstones of the sealed segments back; see `choose_compaction`."""
        sealed = [one for one in self._view.segments if one.sealed is not None]
        maintenance = self.settings.maintenance
        return choose_compaction(sealed, self._sealed_seq, maintenance, full=full)

    def spare(self, work: Work) -> None:
        """Choose these segments less soon: built anew, they were worse."""
        spared = {one.sealed.name: one.tombstones for one in work.sources if one.sealed is not None}
        kept = {name: self._spared[name] for name in self._spared if name in self.segments}
        self._spared = kept | spared

    def preview(self, view: View, adopted: Sequence[Sealed], retired: Collection[str]) -> View:
        """What a view of this index would be with segments swapped; see `adopt`. Changes
        nothing."""
        segments = _adopted(view.segments, adopted, retired)
        return self._new_view(segments, view.watermark, view.change_id)

    def open(self, path: Path, name: str, *, check: bool = True) -> Sealed:
        """A segment of this index. Raises DataLoss; see `open_sealed`."""
        return open_sealed(path, name, self.settings.graph, self._analyzer.words, check=check)

    def _new_buffer(self) -> Buffer:
        return Buffer(self.settings.dimensions, self._analyzer.words)

    def _new_view(self, segments: Iterable[SegmentView], watermark: int, change_id: str) -> View:
        return View.of(
            self.settings.dimensions,
            self.settings.metric,
            segments,
            self._analyzer,
            watermark,
            change_id,
        )

    def _with_appended(self, segments: list[SegmentView], appended: int) -> list[SegmentView]:
        if segments and segments[-1].rows is self._buffer:
            return [*segments[:-1], segments[-1].grown(self._buffer.count)]
        return [*segments, SegmentView.of(self._buffer, np.ones(appended, np.bool_))]

    def _freeze(self) -> None:
        """Start a new buffer; the old one waits to be sealed."""
        self._frozen_at[id(self._buffer)] = self._view.watermark
        self._buffer = self._new_buffer()

    def _frozen(self) -> list[tuple[SegmentView, int]]:
        """Frozen buffers, each with the last commit of which no row is in a later one."""
        frozen: list[tuple[SegmentView, int]] = []
        later_seq = self._view.watermark + 1
        for segment in reversed(self._view.segments):
            if segment.sealed is not None:
                break
            at = self._frozen_at.get(id(segment.rows))
            if at is not None:
                frozen.append((segment, min(at, later_seq - 1)))
            later_seq = min(later_seq, int(segment.rows.seqs[: segment.count].min()))
        return frozen[::-1]

    def _tidied(self, segments: Sequence[SegmentView]) -> list[SegmentView]:
        """Without buffers that have no living row; a new one grows if it was the growing one."""
        if self._buffer.count and not any(
            one.rows is self._buffer and one.live_count for one in segments
        ):
            self._buffer = self._new_buffer()
        kept = [
            one
            for one in segments
            if one.live_count or one.sealed is not None or one.rows is self._buffer
        ]
        present = {id(one.rows) for one in kept}
        self._frozen_at = {key: at for key, at in self._frozen_at.items() if key in present}
        return kept


def _without(segments: Sequence[SegmentView], ids: Set[str]) -> list[SegmentView]:
    """With the living rows of these ids dead."""
    if not ids:
        return list(segments)
    listed = list(ids) if any(one.sealed is not None for one in segments) else []
    hashes = hash_ids(listed)
    out = []
    for segment in segments:
        found = np.zeros(0, np.int64)
        if isinstance(segment.rows, Buffer):
            found = np.array(segment.rows.found(ids, segment.count), np.int64)
        elif segment.sealed is not None:
            found = segment.sealed.rows.positions(listed, hashes)
            found = found[found >= 0]
        places = found[segment.live[found]].tolist()
        out.append(segment.without(places) if places else segment)
    return out


def _adopted(
    segments: Sequence[SegmentView], adopted: Sequence[Sealed], retired: Collection[str]
) -> list[SegmentView]:
    lives = {one.name: np.zeros(one.count, np.bool_) for one in adopted}
    stay: list[SegmentView] = []
    for segment in segments:
        leaves = segment.sealed is not None and segment.sealed.name in retired
        if segment.sealed is not None and not leaves:
            stay.append(segment)
            continue
        positions = np.flatnonzero(segment.live)
        moved = _mark(lives, adopted, _hashes(segment, positions), segment.rows.seqs[positions])
        if leaves and not moved.all():
            lost = segment.rows.id(int(positions[~moved][0]))
            raise DataLoss(
                f"segment {segment.sealed.name if segment.sealed else ''} was retired with point "
                f"{lost!r}, which no adopted segment has; the index is rebuilt from the log",
                metadata={"id": lost},
            )
        if not leaves:
            gone = positions[moved]
            stay.append(segment.without(gone.tolist()) if len(gone) else segment)
    fresh = [SegmentView.of(one, lives[one.name]) for one in adopted]
    sealed = [one for one in stay if one.sealed is not None]
    return [*sealed, *fresh, *(one for one in stay if one.sealed is None)]


def _hashes(segment: SegmentView, positions: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Hashes:
    if segment.sealed is not None:
        return segment.sealed.rows.hashes_by_position()[positions]
    return hash_ids([segment.rows.id(position) for position in positions.tolist()])


def _mark(
    lives: Mapping[str, Mask], adopted: Sequence[Sealed], hashes: Hashes, seqs: np.ndarray
) -> Mask:
    """Marks in `lives` the adopted rows of these ids and commits; which of them were found."""
    moved = np.zeros(len(hashes), np.bool_)
    for segment in adopted:
        places = segment.rows.positions_by_hash(hashes)
        found = np.flatnonzero(places >= 0)
        same = found[segment.seqs[places[found]] == seqs[found]]
        lives[segment.name][places[same]] = True
        moved[same] = True
    return moved
