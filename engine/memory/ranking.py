"""What of the memories that a search found comes first, and why.

    score = relevance * (1 + RECENCY * recency) * (1 + IMPORTANCE * importance)

`relevance` is what the legs of the search say, each as a share of its best score, added and taken
as a share of the best sum; `recency` is 0.5 ^ (age / half-life), 1 for what was just learned;
`importance` is the memory's own, 0 to 1. Shares of scores, because memories of equal worth have
nearly equal ones, however few there are; ranks, and places in a distribution of two, set them apart
so far that neither recency nor importance could matter.
Relevance counts most: an old memory that answers the question goes before a new one that does not.
The three are those of Park et al., "Generative Agents: Interactive Simulacra of Human Behavior",
UIST 2023, which adds them; a product leaves what is not relevant at nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.answers.words import coverage, rarity, terms

RECENCY_WEIGHT = 0.2
IMPORTANCE_WEIGHT = 0.1
HALF_LIFE_DAYS = 30.0

RECENT_MIN = 0.5
"""From which recency on a reply says that a memory is recent: one half-life."""
IMPORTANT_MIN = 0.7
"""From which importance on it says so."""

COVERAGE_WEIGHT = 1.0
"""What the words that a session has of the query count beside its best memory."""

# Chosen on HotpotQA (100 questions, 994 articles, each sentence a memory and the article its
# session): both articles in the top 2 of 0.33 of the questions without it, of 0.38 with 0.5, 0.42
# with 1 and 0.37 with 2. Where sentences are found by the one before them too, as turns are, it
# makes no difference there: 0.38 and 0.37. LoCoMo was looked at beside it, and the day in a turn's
# text was tried on LoCoMo alone: its figures are no blind ones.

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Weights:
    """How much recency and importance can raise a score, both at least 0, and the half-life of
    recency in days, above 0."""

    recency: float = RECENCY_WEIGHT
    importance: float = IMPORTANCE_WEIGHT
    half_life_days: float = HALF_LIFE_DAYS


@dataclass(frozen=True, slots=True)
class Candidate:
    """A memory that a search found, with the cosine and the BM25 score, None where that leg did not
    find it. `text` is what it was found by, and `session` where it was said, if anywhere."""

    id: str
    meaning: float | None
    words: float | None
    importance: float
    learned_at: datetime
    text: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class Reasons:
    """Why a memory stands where it does: three factors, each 0 to 1, and what found it."""

    relevance: float
    recency: float
    importance: float
    by_meaning: bool
    by_words: bool

    @property
    def recent(self) -> bool:
        """Whether it was learned within one half-life."""
        return self.recency >= RECENT_MIN

    @property
    def important(self) -> bool:
        """Whether it counts more than most."""
        return self.importance >= IMPORTANT_MIN


@dataclass(frozen=True, slots=True)
class Ranked:
    """A memory with its score, higher is better."""

    id: str
    score: float
    reasons: Reasons
    text: str = ""
    session: str = ""


@dataclass(frozen=True, slots=True)
class SessionScore:
    """A session with its score, higher is better, and how many memories speak for it."""

    session: str
    score: float
    memories: int


def recency(learned_at: datetime, now: datetime, half_life_days: float) -> float:
    """1 for what is learned at `now` or later, half of it a half-life before."""
    age_days = max(0.0, (now - learned_at).total_seconds()) / _DAY_S
    return float(0.5 ** (age_days / half_life_days))


def rank(
    candidates: Sequence[Candidate], now: datetime, weights: Weights | None = None
) -> list[Ranked]:
    """The candidates, the best first; equal scores by id."""
    weights = weights or Weights()
    sums = _relevances(candidates)
    best = max(sums, default=0.0)
    ranked = []
    for one, found in zip(candidates, sums, strict=True):
        reasons = Reasons(
            relevance=found / best if best > 0 else 0.0,
            recency=recency(one.learned_at, now, weights.half_life_days),
            importance=one.importance,
            by_meaning=one.meaning is not None,
            by_words=one.words is not None,
        )
        score = (
            reasons.relevance
            * (1 + weights.recency * reasons.recency)
            * (1 + weights.importance * reasons.importance)
        )
        ranked.append(Ranked(one.id, score, reasons, one.text, one.session))
    return sorted(ranked, key=lambda one: (-one.score, one.id))


def _relevances(candidates: Sequence[Candidate]) -> list[float]:
    """For each candidate the sum of its shares of the best score of each leg: 0 to 2."""
    meaning = max((one.meaning for one in candidates if one.meaning is not None), default=0.0)
    words = max((one.words for one in candidates if one.words is not None), default=0.0)
    return [
        (max(0.0, (one.meaning or 0.0) / meaning) if meaning > 0 else 0.0)
        + (max(0.0, (one.words or 0.0) / words) if words > 0 else 0.0)
        for one in candidates
    ]


def rank_sessions(query: str, ranked: Sequence[Ranked]) -> list[SessionScore]:
    """The sessions that memories come from, the best first; equal scores by name.

    A session counts by its best memory, as a share of the best of all, and by how much of the
    query its memories have together, each word weighed by how few of the sessions have it. So one
    that answers in three places goes before one that has half of the words in one place.
    """
    by_session: dict[str, list[Ranked]] = {}
    for one in ranked:
        if one.session:
            by_session.setdefault(one.session, []).append(one)
    best = max((one.score for one in ranked), default=0.0)
    words = {
        name: {term for one in memories for term in terms(one.text)}
        for name, memories in by_session.items()
    }
    weights = rarity(list(words.values()))
    wanted = set(terms(query))
    scores = [
        SessionScore(
            name,
            (memories[0].score / best if best > 0 else 0.0)
            + COVERAGE_WEIGHT * coverage(wanted, words[name], weights),
            len(memories),
        )
        for name, memories in by_session.items()
    ]
    return sorted(scores, key=lambda one: (-one.score, one.session))
