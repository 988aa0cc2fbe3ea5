"""The int8 gate of a model, measured on a data set in BEIR's layout.

A directory with `corpus.jsonl` or `corpus.jsonl.gz`, `queries.jsonl` and `qrels/train.tsv`. Texts
are a title and a text, as BEIR's own models read them.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from engine.errors import InvalidField, ModelTaskMismatch
from services.commands.output import stderr
from services.config import Precision

if TYPE_CHECKING:
    from rich.progress import Progress

    from engine.models.gate import GateRecord
    from engine.models.model_dir import Kind
    from engine.types import Matrix
    from services.commands.model_facts import Found

_COMPARED: tuple[Precision, ...] = ("fp32", "int8")

PIECE = 128
"""Texts between two steps of the progress bar."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Passages, queries, and for each query's row the relevance of passages by their rows."""

    name: str
    passages: Sequence[str]
    queries: Sequence[str]
    qrels: Mapping[int, Mapping[int, float]]


def measure(found: Found, data: Path, *, quiet: bool = False) -> GateRecord:
    """Embeds everything in fp32 and in int8, and keeps what int8 loses beside the converted model.

    Raises InvalidField for data that cannot be read, ModelTaskMismatch for a cross-encoder, and
    what is wrong with the model.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from engine.models import gate
    from engine.models.convert import VERSION

    model = found.read()
    if model.task != "embed" or model.onnx:
        raise ModelTaskMismatch(
            f"{found.spec.id} cannot be measured: it makes no vectors, or comes as ONNX, which is "
            "run as it is",
            metadata={"model": found.spec.id},
        )
    judged = read(data)
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    scores: dict[str, float] = {}
    with Progress(*columns, console=stderr(), transient=True, disable=quiet) as bar:
        for digits in _COMPARED:
            embed = _Embed(found, digits, bar, len(judged.passages) + len(judged.queries))
            passages = embed(judged.passages, "passage")
            scores[digits] = gate.mean_ndcg10(
                passages, embed(judged.queries, "query"), judged.qrels
            )
    record = gate.GateRecord(
        weights_hash=model.weights_hash,
        version=VERSION,
        dataset=judged.name,
        queries=len(judged.qrels),
        ndcg10_fp32=scores["fp32"],
        ndcg10_int8=scores["int8"],
    )
    gate.write_record(record, found.cache_dir)
    return record


def verdict(record: Mapping[str, Any]) -> str:
    """What a record means, for people."""
    from engine.models.gate import LOSS_MAX

    loss = record["ndcg10_fp32"] - record["ndcg10_int8"]
    what = "int8 is now the default on a CPU" if loss <= LOSS_MAX else "it stays fp32"
    return (
        f"nDCG@10 on {record['dataset']} ({record['queries']} queries): fp32 "
        f"{record['ndcg10_fp32']:.4f}, int8 {record['ndcg10_int8']:.4f}; at most {LOSS_MAX} may be "
        f"lost: {what}"
    )


class _Embed:
    """A model in one precision, which moves a bar."""

    def __init__(self, found: Found, digits: Precision, bar: Progress, texts: int) -> None:
        from engine.models.encoder import Encoder

        self._task = bar.add_task(f"{found.spec.id} {digits}", total=texts)
        self._bar = bar
        spec = replace(found.spec, precision=digits)
        encoder = found.loader.load(spec, found.directory())
        assert isinstance(encoder, Encoder)
        self._encoder = encoder

    def __call__(self, texts: Sequence[str], kind: Kind) -> Matrix:
        """The vectors of texts, cut where they are too long."""
        import numpy as np

        # Pieces of similar length, so that their batches have little padding.
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        vectors = np.empty((len(texts), self._encoder.dimensions), np.float32)
        for start in range(0, len(order), PIECE):
            rows = order[start : start + PIECE]
            made = self._encoder.embed([texts[row] for row in rows], kind, truncate=True)
            vectors[rows] = made.vectors
            self._bar.advance(self._task, len(rows))
        return vectors


def read(data: Path) -> Judged:
    """The corpus and the queries that qrels/train.tsv judges.

    Raises InvalidField where a file is missing or cannot be read.
    """
    try:
        return _read(data)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidField(
            f"{data} is no data set in BEIR's layout (corpus.jsonl[.gz], queries.jsonl, "
            f"qrels/train.tsv): {error!r}",
            field="gate",
            metadata={"path": str(data), "error": repr(error)},
        ) from error


def _read(data: Path) -> Judged:
    packed = data / "corpus.jsonl.gz"
    with (
        gzip.open(packed, "rt", encoding="utf-8")
        if packed.is_file()
        else (data / "corpus.jsonl").open(encoding="utf-8")
    ) as file:
        corpus = {row["_id"]: _text(row) for row in map(json.loads, file)}
    with (data / "queries.jsonl").open(encoding="utf-8") as file:
        queries = {row["_id"]: row["text"] for row in map(json.loads, file)}
    with (data / "qrels" / "train.tsv").open(encoding="utf-8", newline="") as file:
        judgments = _judgments(file)
    rows = {name: row for row, name in enumerate(corpus)}
    asked = [name for name in queries if name in judgments]
    if not asked:
        raise ValueError("no query is judged")
    qrels = {
        row: {rows[passage]: gain for passage, gain in judgments[name].items() if passage in rows}
        for row, name in enumerate(asked)
    }
    name = f"{data.absolute().name}, train"
    return Judged(name, list(corpus.values()), [queries[one] for one in asked], qrels)


def _text(row: Mapping[str, Any]) -> str:
    return f"{row.get('title', '')} {row['text']}".strip()


def _judgments(file: TextIO) -> dict[str, dict[str, float]]:
    """For each query, its relevant passages; the header names the columns."""
    found: dict[str, dict[str, float]] = {}
    for row in csv.DictReader(file, delimiter="\t"):
        gain = float(row["score"])
        if gain > 0:
            found.setdefault(row["query-id"], {})[row["corpus-id"]] = gain
    return found
