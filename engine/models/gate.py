"""Whether a model may run in int8: measured by ranking, once for each set of weights.

int8 is the default on a CPU only for weights with a record that passed: the mean nDCG@10 of
training queries falls by LOSS_MAX at most. A record comes with ragmesh for the default model, and
from `ragmesh models convert --gate` for any other; it lies beside the converted models.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from engine.models.convert import VERSION, replace_file
from engine.types import Matrix

LOSS_MAX = 0.005
"""nDCG@10 that int8 may lose."""

DEPTH = 10

Qrels = Mapping[int, Mapping[int, float]]
"""For the row of each query, the relevance (above 0) of passages by their rows."""


@dataclass(frozen=True, slots=True)
class GateRecord:
    """What was measured. `version` is that of the converter, which also says how int8 is done."""

    weights_hash: str
    version: int
    dataset: str
    queries: int
    ndcg10_fp32: float
    ndcg10_int8: float

    @property
    def loss(self) -> float:
        """nDCG@10 lost by int8; negative where it won."""
        return self.ndcg10_fp32 - self.ndcg10_int8

    @property
    def passed(self) -> bool:
        """Whether int8 is as good as fp32, within LOSS_MAX."""
        return self.version == VERSION and self.loss <= LOSS_MAX


MEASURED = (GateRecord("53aa51172d142c89", 2, "SciFact, train", 809, 0.66020, 0.66031),)
"""all-MiniLM-L6-v2, by `ragmesh models convert default --gate` on BEIR's SciFact."""


def record_of(weights_hash: str, cache_dir: Path) -> GateRecord | None:
    """The newest record of some weights for this converter: one in `cache_dir`, else one that
    comes with ragmesh; None if they were never measured."""
    try:
        found = GateRecord(**json.loads(_file(weights_hash, cache_dir).read_text("utf-8")))
        if found.weights_hash == weights_hash and found.version == VERSION:
            return found
    except (OSError, ValueError, TypeError):
        pass  # there is none, or a crash spoiled it: measured again when asked for
    return next((one for one in MEASURED if one.weights_hash == weights_hash), None)


def write_record(record: GateRecord, cache_dir: Path) -> Path:
    """Keeps a record; returns its file."""
    cache_dir.mkdir(parents=True, exist_ok=True)
    file = _file(record.weights_hash, cache_dir)
    replace_file(file, json.dumps(asdict(record), indent=2).encode())
    return file


def mean_ndcg10(passages: Matrix, queries: Matrix, qrels: Qrels) -> float:
    """Mean nDCG@10 of ranking all `passages` for each query of `qrels` by inner product.

    Gains are linear, as in trec_eval; a query without a relevant passage is left out. Raises
    ValueError if none is left.
    """
    scores = [
        _ndcg([judged.get(int(row), 0.0) for row in _best(passages, queries[query])], judged)
        for query, judged in qrels.items()
        if any(gain > 0 for gain in judged.values())
    ]
    if not scores:
        raise ValueError("no query has a relevant passage")
    return float(np.mean(scores))


def _best(passages: Matrix, query: Matrix) -> Sequence[int]:
    similarity = passages @ query
    depth = min(DEPTH, len(passages))
    chosen = np.argpartition(-similarity, depth - 1)[:depth]
    order = np.argsort(-similarity[chosen], kind="stable")
    return [int(row) for row in chosen[order]]


def _ndcg(gains: Sequence[float], judged: Mapping[int, float]) -> float:
    ideal = sorted(judged.values(), reverse=True)[:DEPTH]
    return _dcg(gains) / _dcg(ideal)


def _dcg(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def _file(weights_hash: str, cache_dir: Path) -> Path:
    return cache_dir / f"{weights_hash}-int8-v{VERSION}.gate.json"
