"""SciFact's sentences as real vectors: 51,309 of them, embedded once and kept in the user's cache.

A document's title and abstract, joined by a space, are cut after `.`, `!` and `?` before white
space. What is kept is named by a hash of the model's fingerprint and of every text, so another
model, or other texts, are other files.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import platformdirs

from benchmarks.data import Matrix, RetrievalSet, Text, VectorSet, nearest

CACHE = platformdirs.user_cache_path("ragmesh") / "benchmarks" / "vectors"
HELD_APART = 291
"""Sentences that are not points but queries, drawn from seed 0; with the 1,109 claims they make
1,400 queries."""

_END = re.compile(r"(?<=[.!?])\s+")
_STEP = 512
_K = 10

Embed = Callable[[Sequence[str]], Matrix]
Say = Callable[[str], None]


def split(documents: Sequence[Text]) -> list[str]:
    """The sentences of all documents, in order; some come twice."""
    return [one for text in documents for one in _END.split(f"{text.title} {text.text}")]


def vector_set(
    data: RetrievalSet,
    embed: Embed,
    *,
    fingerprint: str,
    say: Say,
    cache: Path = CACHE,
    held_apart: int = HELD_APART,
) -> VectorSet:
    """Points are the sentences that are not held apart; queries are all claims, then those."""
    sentences, claims = split(data.documents), list(data.queries.values())
    vectors = embedded([*sentences, *claims], embed, fingerprint=fingerprint, say=say, cache=cache)
    apart = np.zeros(len(sentences), np.bool_)
    apart[np.random.default_rng(0).permutation(len(sentences))[:held_apart]] = True
    of_sentences, of_claims = vectors[: len(sentences)], vectors[len(sentences) :]
    points = np.ascontiguousarray(of_sentences[~apart])
    queries = np.concatenate([of_claims, of_sentences[apart]])
    say(f"searching {len(points):,} vectors exactly for {len(queries):,} queries")
    return VectorSet(points, queries, nearest(points, queries, _K))


def embedded(
    texts: Sequence[str], embed: Embed, *, fingerprint: str, say: Say, cache: Path = CACHE
) -> Matrix:
    """A row for each text, from the cache or embedded now in steps of 512, shortest first, so
    that texts of one length share batches. What was broken off leaves nothing behind."""
    file = cache / f"{_digest(texts, fingerprint)}.npy"
    if file.is_file():
        kept: Matrix = np.load(file)
        return kept
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    rows: Matrix | None = None
    told = 0
    for start in range(0, len(order), _STEP):
        if start * 10 // len(order) > told or start == 0:
            told = start * 10 // len(order)
            say(f"embedding {len(texts):,} sentences, once: {start:,} done")
        part = order[start : start + _STEP]
        found = embed([texts[i] for i in part])
        rows = np.empty((len(texts), found.shape[1]), np.float32) if rows is None else rows
        rows[part] = found
    if rows is None:
        raise ValueError("there is no text to embed")
    cache.mkdir(parents=True, exist_ok=True)
    fresh = file.with_name(f"{os.getpid()}-{file.name}")
    with fresh.open("wb") as out:
        np.save(out, rows)
    fresh.replace(file)
    return rows


def _digest(texts: Sequence[str], fingerprint: str) -> str:
    digest = hashlib.sha256(fingerprint.encode())
    for text in texts:
        data = text.encode()
        digest.update(len(data).to_bytes(4, "little") + data)
    return digest.hexdigest()[:24]
