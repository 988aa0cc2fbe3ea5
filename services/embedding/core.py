"""Embeds texts with the models of this node. Plain values in and out."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from engine.errors import TextTooLong
from engine.models.encoder import Encoder
from engine.models.model_dir import Kind
from engine.models.tokenize import Tokenized
from engine.types import Sentences, TokenVectors, Vector
from services.embedding.cache import CachedVector, Key, VectorCache, key_of
from services.embedding.catalog import Catalog
from services.embedding.flights import Flights, landed
from services.embedding.jobs import AnyResult, Job, TextVector
from services.embedding.served import ServedModel
from services.mesh.model_queue import Done
from services.rpc import metrics
from services.rpc.call import Call

INLINE_CHARACTERS_MAX = 4_000
"""Texts up to this many characters in all are tokenized on the event loop: that takes less than
the hop to a thread (about 0.1 ms)."""


class EmbeddedText(NamedTuple):
    """What became of one text."""

    vector: Vector
    sentences: Sentences | None
    tokens: int
    truncated: bool
    token_vectors: TokenVectors | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """How texts are to be embedded."""

    kind: Kind
    dimensions: int
    truncate: bool
    sentences: bool
    tokens: bool = False


@dataclass(slots=True)
class Embedded:
    """Texts that were embedded, in order, with where the time went. `done` is what the queue said
    of those that went through it."""

    fingerprint: str
    texts: list[EmbeddedText] = field(default_factory=list)
    done: list[Done[AnyResult]] = field(default_factory=list)
    tokenize_ms: float = 0.0
    cached_texts: int = 0


class EmbeddingCore:
    """Embedding by the models of a catalog; `default` is an alias."""

    def __init__(self, catalog: Catalog, cache: VectorCache, threads: Executor) -> None:
        self._catalog = catalog
        self._cache = cache
        self._flights = Flights[EmbeddedText]()
        self._threads = threads

    async def embed(
        self, model_id: str, texts: Sequence[str], asked: Asked, call: Call
    ) -> Embedded:
        """Embeds texts in order, loading the model if it is not in memory.

        Raises TextTooLong, InvalidField, QueueFull and the like, and what `Catalog.encoder` raises.
        """
        async with self._catalog.encoder(model_id) as model:
            fingerprint = model.encoder.fingerprint_of(asked.dimensions or None).text
            embedded = Embedded(fingerprint)
            # Sentences come with passages, which are embedded once and kept in the collection.
            # Token vectors would fill the cache with many times what it is for.
            if asked.sentences or asked.tokens or not self._cache.enabled:
                embedded.texts = await self._make(model, texts, asked, call, embedded)
            else:
                await self._from_cache(model, texts, asked, call, embedded)
            return embedded

    async def _from_cache(
        self,
        model: ServedModel,
        texts: Sequence[str],
        asked: Asked,
        call: Call,
        embedded: Embedded,
    ) -> None:
        """What is known, then what others are making, and the rest made here."""
        # The bound too: one space may be offered with two, and a text that is cut is another one.
        space = f"{embedded.fingerprint}/{model.encoder.tokens_max}"
        keys = [key_of(call.tenant, space, asked.kind, asked.truncate, text) for text in texts]
        found = {
            key: EmbeddedText(known.vector, None, known.tokens, known.truncated)
            for key, known in (await self._cache.find(keys)).items()
        }
        embedded.cached_texts = sum(key in found for key in keys)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        try:
            found |= await self._share(model, missing, asked, call, embedded)
        except TextTooLong:
            # It names a place among those that were missing; among all it is another one.
            await self._tokenize(model.encoder, texts, asked)
            raise
        embedded.texts = [found[key] for key in keys]

    async def _share(
        self,
        model: ServedModel,
        missing: Mapping[Key, str],
        asked: Asked,
        call: Call,
        embedded: Embedded,
    ) -> dict[Key, EmbeddedText]:
        # By lane: a query must not wait for a passage in the bulk lane.
        shared = {
            key: flight
            for key in missing
            if (flight := self._flights.under_way((call.lane, key))) is not None
        }
        own = {key: text for key, text in missing.items() if key not in shared}
        made = await self._lead(model, own, asked, call, embedded)
        for key, flight in shared.items():
            result = await landed(flight)
            if result is not None:
                made[key] = result
                embedded.cached_texts += 1
                metrics.CACHE_TEXTS.labels("shared").inc()
        left = {key: text for key, text in missing.items() if key not in made}
        return made | await self._lead(model, left, asked, call, embedded)

    async def _lead(
        self,
        model: ServedModel,
        texts: Mapping[Key, str],
        asked: Asked,
        call: Call,
        embedded: Embedded,
    ) -> dict[Key, EmbeddedText]:
        if not texts:
            return {}
        with self._flights.lead((call.lane, key) for key in texts) as led:
            results = await self._make(model, list(texts.values()), asked, call, embedded)
            made = dict(zip(texts, results, strict=True))
            for key, result in made.items():
                led[call.lane, key].set_result(result)
        self._cache.keep(
            {key: CachedVector(one.vector, one.tokens, one.truncated) for key, one in made.items()}
        )
        return made

    async def _make(
        self,
        model: ServedModel,
        texts: Sequence[str],
        asked: Asked,
        call: Call,
        embedded: Embedded,
    ) -> list[EmbeddedText]:
        """Through the model."""
        loop = asyncio.get_running_loop()
        begin_s = loop.time()
        tokenized = await self._tokenize(model.encoder, texts, asked)
        embedded.tokenize_ms += (loop.time() - begin_s) * 1000
        jobs = [Job(text, asked.sentences, asked.dimensions, asked.tokens) for text in tokenized]
        done = await model.queue.submit(jobs, [t.tokens for t in tokenized], call)
        embedded.done += done
        made = [cast(TextVector, one.result) for one in done]  # what comes of a Job
        return [
            EmbeddedText(one.vector, one.sentences, text.tokens, text.truncated, one.token_vectors)
            for one, text in zip(made, tokenized, strict=True)
        ]

    async def _tokenize(
        self, encoder: Encoder, texts: Sequence[str], asked: Asked
    ) -> list[Tokenized]:
        kind, truncate = asked.kind, asked.truncate
        if sum(map(len, texts)) <= INLINE_CHARACTERS_MAX:
            return encoder.tokenize(texts, kind, truncate=truncate)
        return await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: encoder.tokenize(texts, kind, truncate=truncate)
        )

    async def count(self, model_id: str, texts: Sequence[str]) -> Sequence[int]:
        """Tokens of each text, without special tokens: the counts of pieces add up."""
        async with self._catalog.encoder(model_id) as model:
            loop = asyncio.get_running_loop()
            special, *counts = await loop.run_in_executor(
                self._threads, model.encoder.count_tokens, ["", *texts]
            )
            return [count - special for count in counts]
