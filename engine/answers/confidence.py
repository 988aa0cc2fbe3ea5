"""How sure an extractive answer is: a logistic function of what its sentences share with the
question.

Features: the largest cosine of the question and a sentence; the share of the question's words that
the sentences have together; and the share that the first sentence's whole passage has. Shares are
0 to 1 and count rare words more (`words.coverage`). The weights are made by
`benchmarks/calibrate_answers.py`. Whether a sentence has the kind of thing that is asked for (a
date for "when"), or the names of the question, added nothing there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from engine.answers.words import coverage, terms

Features: TypeAlias = tuple[float, float, float]


def features(
    question: str,
    sentences: Sequence[str],
    cosines: Sequence[float],
    passage: str,
    weights: Mapping[str, float],
) -> Features:
    """Of the chosen `sentences`, at least one; `passage` is the text that the first is of,
    `weights` are of words among the passages."""
    wanted = frozenset(terms(question))
    together = frozenset[str]().union(*(terms(sentence) for sentence in sentences))
    whole = frozenset(terms(passage))
    return max(cosines), coverage(wanted, together, weights), coverage(wanted, whole, weights)


def probability(found: Features, weights: Sequence[float]) -> float:
    """0 to 1; `weights` begin with the constant."""
    logit = weights[0] + sum(w * x for w, x in zip(weights[1:], found, strict=True))
    return 1.0 / (1.0 + math.exp(-max(min(logit, 30.0), -30.0)))
