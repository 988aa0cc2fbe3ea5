"""What the tests of the index build segments with: in this process, in a folder of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.index.building import Spec, build_segment, source_of
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.maintenance import Reason, Work
from engine.index.sealed import Sealed
from engine.types import Point


def spec_of(index: CollectionIndex, work: Work) -> Spec:
    """What a segment of this index is built with."""
    chosen = index.settings
    return Spec(
        chosen.dimensions,
        chosen.metric,
        chosen.language,
        chosen.graph,
        work.sealed_seq,
        chosen.storage,
        continues=work.reason is Reason.MERGE,
    )


def built(index: CollectionIndex, work: Work, *, stop: NDArray[np.uint8] | None = None) -> Sealed:
    """The segment of a work, open. Its file is gone: the map holds what it had."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "segment"
        sources = [source_of(view) for view in work.sources]
        written = build_segment(sources, spec_of(index, work), path, stop=stop)
        return index.open(path, written.sha256)


def install(index: CollectionIndex, work: Work) -> Sealed:
    """Build a work and adopt the outcome."""
    segment = built(index, work)
    index.adopt([segment], work.retired, max(index.sealed_seq, work.sealed_seq))
    return segment


def maintain(index: CollectionIndex, *, quiet: bool = False) -> int:
    """Do all work there is; how many pieces that were."""
    for done in range(200):
        work = index.seal_work(quiet=quiet) or index.merge_work(quiet=quiet)
        if work is None:
            return done
        install(index, work)
    raise AssertionError("maintenance does not come to an end")


def loaded(settings: IndexSettings, points: Iterable[Point], watermark: int = 1) -> CollectionIndex:
    """An index with one commit, all of it in one segment."""
    index = CollectionIndex(settings)
    index.apply(list(points), [], watermark, "bulk")
    index.freeze()
    maintain(index)
    return index
