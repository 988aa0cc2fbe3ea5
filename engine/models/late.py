"""Late interaction: how well a passage answers a query, from the token outputs of an encoder.

MaxSim after Khattab and Zaharia 2020 (ColBERT): for each token of the query the best cosine with
any token of the passage, here averaged over the query's tokens, so that the score lies in [-1, 1]
whatever the query's length. Special tokens and prompts are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.models.pool import INT8_SCALE, normalize
from engine.models.tokenize import Tokenized
from engine.types import Matrix, TokenVectors

ANSWER_BYTES_MAX = 8 << 20
"""Token vectors asked for at once: an answer has 16 MiB at most, and room for vectors and
sentences."""
NOTHING_IN_COMMON = -1.0
"""The score where query or passage has no token of its own, such as an empty text."""


def token_vectors(outputs: NDArray[np.float32], tokenized: Tokenized) -> Matrix:
    """The normalized outputs of a text's own tokens, (tokens, hidden).

    `outputs` is (tokens, hidden) and may have padding at its end.
    """
    return normalize(outputs[: tokenized.tokens][~tokenized.special])


def small_token_vectors(outputs: NDArray[np.float32], tokenized: Tokenized) -> TokenVectors:
    """The same as int8, to be kept or sent."""
    return np.rint(token_vectors(outputs, tokenized) * INT8_SCALE).astype(np.int8)


def answer_parts(tokens: Sequence[int], dimensions: int, texts_max: int) -> Iterator[slice]:
    """Texts of at most so many tokens each in parts of at most `texts_max`, whose token vectors fit
    into one answer. A text that does not fit is a part of its own."""
    start, size = 0, 0
    for index, count in enumerate(tokens):
        own = count * dimensions
        if index > start and (index - start >= texts_max or size + own > ANSWER_BYTES_MAX):
            yield slice(start, index)
            start, size = index, 0
        size += own
    if start < len(tokens):
        yield slice(start, len(tokens))


def max_sim(query: Matrix, passage: Matrix) -> float:
    """The mean over the query's tokens of the best cosine with a token of the passage.

    Both are rows of norm 1, as `token_vectors` gives them.
    """
    if not len(query) or not len(passage):
        return NOTHING_IN_COMMON
    return float((query @ passage.T).max(axis=1).mean())
