"""Answers made of the sentences that answer best, each cited where it stands.

Every sentence of the passages gets a score from 0 to about 1,

    w_cosine * cosine(question, sentence) + w_overlap * overlap(sentence)
    + w_passage * overlap(passage) + w_rank * (score of the passage / best score)

where overlap is the share of the question's terms that are found, weighted by how rare a term is
among the sentences at hand (`words.coverage`). Sentences are then chosen one by one, each time
the one with the best score less a share of its likeness to those chosen (maximal marginal
relevance, Carbonell and Goldstein 1998).

The confidence is a logistic function of what the chosen sentences share with the question (see
`confidence`). Below `confidence_min` there is no answer.

The weights of sentences were fitted on SciFact's train claims and a HotpotQA sample, by logistic
regression. Those of the confidence come from `benchmarks/calibrate_answers.py`, on the same data,
each question once with its gold documents and once without (then the right answer is none): there,
0.25 keeps 84 % (SciFact) and 92 % (HotpotQA) of the right answers and turns away 59 % and 57 % of
the wrong ones; the area under the curve is 0.79 and 0.85. No question of SQuAD took part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.answers.confidence import Features, features, probability
from engine.answers.evidence import Answer, Citation, Passage, cite
from engine.answers.instructions import addresses_answerer, is_instruction, is_mixed
from engine.answers.words import coverage, rarity, terms
from engine.errors import InvalidField, InvalidVector
from engine.models import sentences as splitting
from engine.types import Span, Vector

_HEADING_WORDS_MAX = 12
_SENTENCE_ENDS = ".!\u2026:;)]\"'\u201d\u2019\u3002\uff01"
_QUANTUM = 127.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How sentences are weighed and when there is no answer; see the module's docstring.

    `redundancy` is the share of the likeness taken off; a sentence as like a chosen one as
    `duplicate_likeness` is never taken, nor one that scores less than `score_share_min` of the
    best. An instruction needs an overlap of `instruction_overlap_min`.
    `confidence_weights` are for 1, best cosine, joint overlap and passage overlap.
    """

    w_cosine: float = 0.4
    w_overlap: float = 0.38
    w_passage: float = 0.07
    w_rank: float = 0.15
    redundancy: float = 0.1
    duplicate_likeness: float = 0.92
    score_share_min: float = 0.6
    confidence_weights: tuple[float, ...] = (-7.7, 8.2, 1.6, 2.7)
    confidence_min: float = 0.25
    instruction_overlap_min: float = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """Features of an answer, and the passage of its best sentence."""

    features: Features
    first: Passage


@dataclass(frozen=True, slots=True)
class _Candidate:
    passage: int
    span: Span
    words: frozenset[str]
    vector: Vector
    cosine: float
    overlap: float
    score: float


def answer(
    question: str,
    question_vector: Vector,
    passages: Sequence[Passage],
    *,
    sentences_max: int = 3,
    settings: Settings | None = None,
) -> Answer:
    """The best `sentences_max` sentences of `passages`, or no answer and the reason for it.

    `question_vector` is of norm 1 and of the same space as the sentences' vectors. Passages
    without sentence vectors are weighed by words alone. Sentences of one passage stay together in
    the order of the passage; passages come in the order of their best sentence.

    Raises InvalidField for `sentences_max` below 1, InvalidVector for a question vector that is
    not finite or of another length than the sentences' vectors.
    """
    if sentences_max < 1:
        raise InvalidField(
            f"sentences_max is {sentences_max}; it must be at least 1",
            field="sentences_max",
            metadata={"sentences_max": sentences_max, "bound": 1},
        )
    chosen_settings = settings or Settings()
    found = _found(question, question_vector, passages, sentences_max, chosen_settings)
    if found is None:
        return Answer("", (), 0.0, "NO_PASSAGE")
    chosen, measured = found
    if measured is None:
        return Answer("", (), 0.0, "LOW_SUPPORT")
    confidence = probability(measured.features, chosen_settings.confidence_weights)
    if confidence < chosen_settings.confidence_min:
        return Answer("", (), confidence, "LOW_SUPPORT")
    text, citations = _compose(chosen, passages)
    return Answer(text, citations, confidence)


def measure(
    question: str, question_vector: Vector, passages: Sequence[Passage], *, sentences_max: int = 3
) -> Measured | None:
    """What the confidence of an answer is made of; None where no sentence can be one."""
    found = _found(question, question_vector, passages, sentences_max, Settings())
    return None if found is None else found[1]


def _found(
    question: str,
    question_vector: Vector,
    passages: Sequence[Passage],
    sentences_max: int,
    settings: Settings,
) -> tuple[list[_Candidate], Measured | None] | None:
    """The chosen sentences with their features; None without a sentence to choose from."""
    wanted = frozenset(terms(question))
    candidates = _candidates(wanted, question_vector, passages, settings)
    if not candidates:
        return None
    chosen = _choose(candidates, passages, sentences_max, settings)
    if not chosen:
        return [], None
    first = passages[chosen[0].passage]
    texts = [passages[c.passage].text[c.span.start : c.span.end] for c in chosen]
    weights = rarity([candidate.words for candidate in candidates])
    cosines = [candidate.cosine for candidate in chosen]
    return chosen, Measured(features(question, texts, cosines, first.text, weights), first)


def _candidates(
    wanted: frozenset[str], question_vector: Vector, passages: Sequence[Passage], settings: Settings
) -> list[_Candidate]:
    """Every sentence that can stand in an answer, with its score."""
    found: list[tuple[int, Span, Vector, float]] = []
    for index, passage in enumerate(passages):
        spans, vectors = _sentences_of(passage, question_vector)
        cosines = vectors @ question_vector
        found += [(index, s, v, float(c)) for s, v, c in zip(spans, vectors, cosines, strict=True)]
    texts = [passages[index].text[span.start : span.end] for index, span, _, _ in found]
    words = [frozenset(terms(text)) for text in texts]
    weights = rarity(words)
    of_passage: dict[int, set[str]] = {}
    for (index, *_), held in zip(found, words, strict=True):
        of_passage.setdefault(index, set()).update(held)
    passage_overlap = {i: coverage(wanted, held, weights) for i, held in of_passage.items()}
    ranks = _relative_scores(passages)
    candidates = []
    for (index, span, vector, cosine), held in zip(found, words, strict=True):
        overlap = coverage(wanted, held, weights)
        score = (
            settings.w_cosine * max(cosine, 0.0)
            + settings.w_overlap * overlap
            + settings.w_passage * passage_overlap[index]
            + settings.w_rank * ranks[index]
        )
        candidates.append(_Candidate(index, span, held, vector, cosine, overlap, score))
    standing = [c for c in candidates if _can_stand(passages[c.passage].text, c)]
    return standing or [c for c in candidates if c.words]


def _sentences_of(passage: Passage, question_vector: Vector) -> tuple[list[Span], Vector]:
    """Spans, and vectors of norm 1 as rows; zeros where the passage has no vectors."""
    if passage.sentences is None:
        spans = splitting.split(passage.text)
        return spans, np.zeros((len(spans), len(question_vector)), np.float32)
    vectors = passage.sentences.vectors.astype(np.float32) / np.float32(_QUANTUM)
    if vectors.shape[1:] != question_vector.shape or not np.isfinite(question_vector).all():
        raise InvalidVector(
            f"the question's vector has shape {question_vector.shape}, the sentences' vectors have "
            f"{vectors.shape[1]} numbers; embed the question with the collection's model",
            field="question_vector",
            metadata={"dimensions": len(question_vector), "expected": vectors.shape[1]},
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    spans = [Span(int(start), int(end)) for start, end in passage.sentences.spans]
    return spans, vectors / np.maximum(norms, 1e-6)


def _relative_scores(passages: Sequence[Passage]) -> list[float]:
    best = max((passage.score for passage in passages), default=0.0)
    return [max(p.score, 0.0) / best if best > 0 else 0.0 for p in passages]


def _can_stand(text: str, candidate: _Candidate) -> bool:
    """Not a heading on a line of its own, and not a question: neither answers anything."""
    sentence = text[candidate.span.start : candidate.span.end]
    if sentence.endswith("?") or not candidate.words:
        return False
    alone = candidate.span.end == len(text) or text[candidate.span.end] == "\n"
    short = len(sentence.split()) <= _HEADING_WORDS_MAX
    return not (alone and short and sentence[-1] not in _SENTENCE_ENDS)


def _orders(text: str, candidate: _Candidate, settings: Settings) -> bool:
    """An instruction, or code, that has little to do with the question or runs into a sentence, or
    one to whoever writes the answer."""
    sentence = text[candidate.span.start : candidate.span.end]
    if addresses_answerer(sentence):
        return True
    if candidate.overlap >= settings.instruction_overlap_min:
        return is_mixed(sentence)
    return is_instruction(sentence)


def _choose(
    candidates: Sequence[_Candidate],
    passages: Sequence[Passage],
    sentences_max: int,
    settings: Settings,
) -> list[_Candidate]:
    """Up to `sentences_max` candidates, best first, none of them saying the same or telling the
    reader what to do."""
    best = max(candidate.score for candidate in candidates)
    left = [c for c in candidates if c.score >= settings.score_share_min * best]
    chosen: list[_Candidate] = []
    while left and len(chosen) < sentences_max:
        likeness = {id(c): max((_likeness(c, d) for d in chosen), default=0.0) for c in left}
        left = [c for c in left if likeness[id(c)] < settings.duplicate_likeness]
        if not left:
            break
        top = max(left, key=lambda c: c.score - settings.redundancy * likeness[id(c)])
        left = [c for c in left if c is not top]
        if not _orders(passages[top.passage].text, top, settings):
            chosen.append(top)
    return chosen


def _likeness(one: _Candidate, other: _Candidate) -> float:
    """The larger of the cosine and the share of words in common, 0 to 1."""
    shared = len(one.words & other.words) / max(1, len(one.words | other.words))
    return max(shared, float(one.vector @ other.vector))


def _compose(
    chosen: Sequence[_Candidate], passages: Sequence[Passage]
) -> tuple[str, tuple[Citation, ...]]:
    """The sentences as one text, each with its citation and its place in that text."""
    order = {c.passage: rank for rank, c in reversed(list(enumerate(chosen)))}
    pieces: list[str] = []
    citations: list[Citation] = []
    at = 0
    for candidate in sorted(chosen, key=lambda c: (order[c.passage], c.span.start)):
        passage = passages[candidate.passage]
        piece = " ".join(passage.text[candidate.span.start : candidate.span.end].split())
        place = Span(at, at + len(piece))
        citations.append(cite(passage, candidate.span, place, candidate.score))
        pieces.append(piece)
        at = place.end + 1
    return " ".join(pieces), tuple(citations)
