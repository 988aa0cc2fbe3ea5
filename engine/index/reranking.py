"""A second look at the best hits, by their stored sentences: no model runs.

A passage is worth what its best sentence is worth: how close the sentence is to the query in
meaning (cosine of the query's vector and the sentence's), and how many of the query's words it
has, each word counting the more the fewer candidates have it:

    best = max over sentences of cosine + WORDS_WEIGHT * share of the query's words
    order by z(score of the search) + SENTENCES_WEIGHT * z(best)

with z in standard deviations over the candidates. Weights and the 50 candidates were chosen on
SciFact's training claims and Cranfield, nDCG@10: fused by ranks 0.719 and 0.468, reranked 0.732 and
0.474; fused by scores 0.733 and 0.472, reranked 0.736 and 0.476. 50 abstracts take 9 ms of a core.
Meaning alone gains nothing there: the words of one sentence are what the two legs, which read
whole passages, do not know.

Where a collection keeps the vectors of all tokens, a passage is worth what late interaction says
(`max_sim`), blended in the same way:

    order by z(score of the search) + TOKENS_WEIGHT * z(max_sim)

Weight and the 20 candidates were chosen in the same way: fused by ranks 0.719 and 0.480, reranked
0.732 and 0.480; fused by scores 0.732 and 0.481, reranked 0.738 and 0.480. 20 abstracts take 5 ms
of a core, and 91 KB each to keep.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.index.conditions import Analyze
from engine.models.late import max_sim
from engine.models.pool import INT8_SCALE
from engine.types import Hit, Matrix, TokenVectors, Vector

CANDIDATES_DEFAULT = 50
WORDS_WEIGHT = 0.5
SENTENCES_WEIGHT = 0.5
TOKEN_CANDIDATES_DEFAULT = 20
TOKENS_WEIGHT = 0.5

_MARK = "zqxjz"
"""A word that no text has. One that has it is read slower."""

Numbers = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reranked:
    """`order` are places of the candidates, the best first; `scores`, 0 to 1, belong to them."""

    order: tuple[int, ...]
    scores: tuple[float, ...]


def by_sentences(
    hits: Sequence[Hit], vector: Vector | None, text: str, analyze: Analyze
) -> Reranked | None:
    """The hits in the order of what their best sentences say; None if no hit has sentences.

    `vector` is the query's, of the space of the sentences', and `text` what it was made from; one
    of them may be missing (None, empty). `analyze` gives the words of a text. A hit without
    sentences counts as an average one; equal hits keep their order.
    """
    words = dict.fromkeys(analyze(text)) if text else {}
    meanings = [_cosines(hit, vector) for hit in hits]
    sayings = _shares(hits, list(words), analyze)
    best = np.full(len(hits), np.nan)
    for place, (meaning, saying) in enumerate(zip(meanings, sayings, strict=True)):
        if len(meaning):
            best[place] = float(np.max(meaning + WORDS_WEIGHT * saying))
    return _blended(hits, best, SENTENCES_WEIGHT)


def by_tokens(hits: Sequence[Hit], query: TokenVectors) -> Reranked | None:
    """The hits by late interaction with the tokens of a query; None if no hit has tokens.

    A hit without tokens counts as an average one; equal hits keep their order.
    """
    # The scales of both sides, where there are fewer rows.
    asked: Matrix = query.astype(np.float32) / np.float32(INT8_SCALE * INT8_SCALE)
    best = np.full(len(hits), np.nan)
    for place, hit in enumerate(hits):
        tokens = hit.point.token_vectors
        if tokens is not None and tokens.shape[1] == query.shape[1] and len(tokens) and len(query):
            best[place] = max_sim(asked, tokens.astype(np.float32))
    return _blended(hits, best, TOKENS_WEIGHT)


def _blended(hits: Sequence[Hit], best: Numbers, weight: float) -> Reranked | None:
    """By the search's scores and what was found of each hit; None if that is nothing."""
    if np.isnan(best).all():
        return None
    scores = np.array([hit.score for hit in hits], np.float64)
    blended = _deviations(scores) + weight * _deviations(best)
    order = np.argsort(-blended, kind="stable")
    probable = (1 + np.tanh(blended[order] / 2)) / 2
    return Reranked(tuple(map(int, order)), tuple(map(float, probable)))


def _cosines(hit: Hit, vector: Vector | None) -> Numbers:
    """Of the query with each sentence of a hit; 0 without a vector."""
    sentences = hit.point.sentences
    if sentences is None or not len(sentences):
        return np.empty(0)
    if vector is None or len(vector) != sentences.vectors.shape[1]:
        return np.zeros(len(sentences))
    length = float(np.linalg.norm(vector)) or 1.0
    cosines: Numbers = (sentences.vectors.astype(np.float32) @ vector).astype(np.float64)
    return cosines / (127 * length)


def _shares(hits: Sequence[Hit], words: list[str], analyze: Analyze) -> list[Numbers]:
    """What share of the query's words each sentence of each hit has, 0 to 1."""
    found = [_said(hit, words, analyze) for hit in hits]
    having = Counter(word for one in found for word in set().union(*one))
    rarity = {
        word: math.log1p((len(hits) - having[word] + 0.5) / (having[word] + 0.5)) for word in words
    }
    total = sum(rarity.values()) or 1.0
    return [
        np.array([sum(rarity[w] for w in sentence) / total for sentence in one], np.float64)
        for one in found
    ]


def _said(hit: Hit, words: list[str], analyze: Analyze) -> list[list[str]]:
    """The query's words that each sentence of a hit has, in the query's order: sums must not
    depend on that of a set."""
    sentences = hit.point.sentences
    if sentences is None:
        return []
    if not words:
        return [[]] * len(sentences)
    texts = [hit.point.text[start:end] for start, end in sentences.spans.tolist()]
    return [[word for word in words if word in said] for said in _analyzed(texts, analyze)]


def _analyzed(texts: list[str], analyze: Analyze) -> list[frozenset[str]]:
    """The words of each text. All are analyzed in one call, a mark between them: calls for each
    took five times as long."""
    marks = analyze(_MARK)
    if len(marks) == 1:
        parts: list[list[str]] = [[]]
        for word in analyze(f" {_MARK} ".join([*texts, ""])):
            if word == marks[0]:
                parts.append([])
            else:
                parts[-1].append(word)
        # What comes after the last mark is of no text in particular: names in one piece.
        if len(parts) == len(texts) + 1:
            return [frozenset(part) for part in parts[:-1]]
    return [frozenset(analyze(text)) for text in texts]


def _deviations(values: Numbers) -> Numbers:
    """In standard deviations from the mean; what is not a number counts as the mean."""
    known = values[~np.isnan(values)]
    # The span, because rounding keeps the deviation of equal numbers from being 0.
    if not len(known) or not np.ptp(known):
        return np.zeros(len(values))
    unit = (values - known.min()) / np.ptp(known)
    deviations: Numbers = np.nan_to_num((unit - np.nanmean(unit)) / np.nanstd(unit), nan=0.0)
    return deviations
