"""Where the time of a request went, as the contract says it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from services.mesh.model_queue import Done
from services.rpc.call import Lane

LANES: dict[Lane, pb.Lane.ValueType] = {
    "interactive": pb.LANE_INTERACTIVE,
    "bulk": pb.LANE_BULK,
}


def fill_timings(
    timings: pb.EmbedTimings,
    done: Sequence[Done[Any]],
    lane: Lane,
    *,
    tokenize_ms: float,
    cached_texts: int = 0,
) -> None:
    """Fills `timings`; `done` is what the queue said of each text that went through it."""
    timings.tokenize_ms = tokenize_ms
    timings.lane = LANES[lane]
    timings.cached_texts = cached_texts
    if not done:
        return
    batches = {one.batch: one for one in done}.values()
    padded = sum(one.batch_padded_tokens for one in batches)
    timings.queue_wait_ms = max(one.queue_wait_ms for one in done)
    timings.inference_ms = sum(one.inference_ms for one in batches)
    timings.batch_texts = max(one.batch_texts for one in batches)
    timings.padding_share = 1 - sum(one.batch_tokens for one in batches) / padded
