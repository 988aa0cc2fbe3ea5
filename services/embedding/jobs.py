"""What waits in a model's queue, and what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from engine.models.late import max_sim, small_token_vectors, token_vectors
from engine.models.pool import pool_sentences
from engine.models.tokenize import Tokenized
from engine.types import Matrix, Sentences, TokenVectors, Vector


class Job(NamedTuple):
    """One text in the queue, and whether its sentences and its tokens' vectors are wanted."""

    text: Tokenized
    sentences: bool
    dimensions: int
    tokens: bool = False


class QueryJob(NamedTuple):
    """A query whose token vectors are wanted, to score passages by."""

    text: Tokenized


class ScoreJob(NamedTuple):
    """A passage, or a window of one, to score by a query's token vectors."""

    text: Tokenized
    query: Matrix


class PairJob(NamedTuple):
    """A query and a passage in one sequence, for a cross-encoder."""

    text: Tokenized


class TextVector(NamedTuple):
    """What the model made of one text; its sentences and tokens only where they were asked for."""

    vector: Vector
    sentences: Sentences | None
    token_vectors: TokenVectors | None = None


AnyJob: TypeAlias = Job | QueryJob | ScoreJob | PairJob
AnyResult: TypeAlias = TextVector | Matrix | float
"""Of a Job, a QueryJob, and one that scores."""


def run(model: Encoder | CrossEncoder, jobs: Sequence[AnyJob]) -> list[AnyResult]:
    """One forward pass over a batch, on a thread of the queue."""
    texts = [job.text for job in jobs]
    if isinstance(model, CrossEncoder):
        return list(model.forward(texts))
    outputs = model.outputs(texts)
    vectors = model.vectors(outputs, texts)
    results: list[AnyResult] = []
    for row, job in enumerate(jobs):
        if isinstance(job, Job):
            vector = model.shorten(vectors[row : row + 1], job.dimensions or None)[0]
            sentences = pool_sentences(outputs[row], job.text) if job.sentences else None
            tokens = small_token_vectors(outputs[row], job.text) if job.tokens else None
            results.append(TextVector(vector, sentences, tokens))
        elif isinstance(job, ScoreJob):
            results.append(max_sim(job.query, token_vectors(outputs[row], job.text)))
        else:
            results.append(token_vectors(outputs[row], job.text))
    return results
