"""Values of migrations."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from ragmesh._types.retrieval import HnswSettings


@dataclass(frozen=True, slots=True)
class Migration:
    """A second index of a collection, and how far it is.

    `building` until it has everything and was compared, then `ready`; `flipped` while searches are
    answered by it. `problem` says what keeps it from going on. `embedding_model` to `hnsw` are of
    the new index. `points_left` of the collection's `points` are not in both indexes as they are
    now. `overlap` is the share of hits that was the same in both, of `queries` queries; the recalls
    are the shares of the ten nearest points that the old and the new index find.
    """

    collection: str
    state: Literal["building", "ready", "flipped"] | str
    problem: str
    embedding_model: str
    fingerprint: str
    dimensions: int
    hnsw: HnswSettings
    points: int
    points_left: int
    watermark: str
    queries: int
    overlap: float
    recall_before: float
    recall_after: float
    create_time: datetime | None
