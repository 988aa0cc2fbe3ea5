"""Embeds texts with the models of this node. Plain values in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import NamedTuple

from engine.errors import EmbeddingModelNotFound
from engine.models.encoder import Encoder
from engine.models.model_dir import Kind
from engine.models.tokenize import Tokenized
from engine.types import Sentences, Vector
from services.mesh.model_queue import Done, ModelQueue
from services.rpc.call import Call

DEFAULT = "default"
"""The id that stands for the model of the configuration."""

INLINE_CHARACTERS_MAX = 4_000
"""Texts up to this many characters in all are tokenized on the event loop: that takes less than
the hop to a thread (about 0.1 ms)."""


class Job(NamedTuple):
    """One text in the queue, and whether its sentences are wanted."""

    text: Tokenized
    sentences: bool
    dimensions: int


class TextVector(NamedTuple):
    """What the model made of one text; its sentences only where they were asked for."""

    vector: Vector
    sentences: Sentences | None


def run(encoder: Encoder, jobs: Sequence[Job]) -> list[TextVector]:
    """One forward pass over a batch, on a thread of the queue."""
    encoded = encoder.forward([j.text for j in jobs], sentences=any(j.sentences for j in jobs))
    return [
        TextVector(
            encoder.shorten(encoded.vectors[row : row + 1], job.dimensions or None)[0],
            encoded.sentences[row] if job.sentences else None,
        )
        for row, job in enumerate(jobs)
    ]


class ServedModel:
    """A loaded model and the queue before it."""

    def __init__(self, encoder: Encoder, queue: ModelQueue[Job, TextVector]) -> None:
        self.encoder = encoder
        self.queue = queue


@dataclass(frozen=True, slots=True)
class Embedded:
    """Texts that were embedded, in order, with where the time went."""

    texts: Sequence[Tokenized]
    done: Sequence[Done[TextVector]]
    fingerprint: str
    tokenize_ms: float


class EmbeddingCore:
    """The models of this node by id; `default` is an alias."""

    def __init__(self, models: Mapping[str, ServedModel], default: str, threads: Executor) -> None:
        self._models = models
        self._default = default
        self._threads = threads

    def model(self, model_id: str) -> ServedModel:
        """A model by id. Raises EmbeddingModelNotFound."""
        model = self._models.get(self._default if model_id == DEFAULT else model_id)
        if model is None:
            raise EmbeddingModelNotFound(
                f"No embedding model {model_id!r} is served; there is: {', '.join(self.ids())}.",
                field="model",
                metadata={"model": model_id},
            )
        return model

    def ids(self) -> list[str]:
        """The ids of all models, sorted."""
        return sorted(self._models)

    async def embed(
        self,
        model_id: str,
        texts: Sequence[str],
        kind: Kind,
        dimensions: int,
        truncate: bool,
        sentences: bool,
        call: Call,
    ) -> Embedded:
        """Embeds texts in order. Raises TextTooLong, InvalidField, QueueFull and the like."""
        model = self.model(model_id)
        encoder = model.encoder
        fingerprint = encoder.fingerprint_of(dimensions or None).text
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        if sum(map(len, texts)) <= INLINE_CHARACTERS_MAX:
            tokenized = encoder.tokenize(texts, kind, truncate=truncate)
        else:
            tokenized = await loop.run_in_executor(
                self._threads, lambda: encoder.tokenize(texts, kind, truncate=truncate)
            )
        tokenize_ms = (loop.time() - begin_s) * 1000
        jobs = [Job(text, sentences, dimensions) for text in tokenized]
        done = await model.queue.submit(jobs, [t.tokens for t in tokenized], call)
        return Embedded(tokenized, done, fingerprint, tokenize_ms)

    async def count(self, model_id: str, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text, without special tokens: the counts of pieces add up."""
        encoder = self.model(model_id).encoder
        loop = asyncio.get_running_loop()
        special, *counts = await loop.run_in_executor(
            self._threads, encoder.count_tokens, ["", *texts]
        )
        return [count - special for count in counts]
