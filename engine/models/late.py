"""Late interaction: how well a passage answers a query, from the token outputs of an encoder.

MaxSim after Khattab and Zaharia 2020 (ColBERT): for each token of the query the best cosine with
any token of the passage, here averaged over the query's tokens, so that the score lies in [-1, 1]
whatever the query's length. Special tokens and prompts are left out.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.models.pool import normalize
from engine.models.tokenize import Tokenized
from engine.types import Matrix

NOTHING_IN_COMMON = -1.0
"""The score where query or passage has no token of its own, such as an empty text."""


def token_vectors(outputs: NDArray[np.float32], tokenized: Tokenized) -> Matrix:
    """The normalized outputs of a text's own tokens, (tokens, hidden).

    `outputs` is (tokens, hidden) and may have padding at its end.
    """
    return normalize(outputs[: tokenized.tokens][~tokenized.special])


def max_sim(query: Matrix, passage: Matrix) -> float:
    """The mean over the query's tokens of the best cosine with a token of the passage.

    Both are rows of norm 1, as `token_vectors` gives them.
    """
    if not len(query) or not len(passage):
        return NOTHING_IN_COMMON
    return float((query @ passage.T).max(axis=1).mean())
