"""A reranking by sentences finds the passage with the sentence that says it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.index.conditions import Analyze, plain_words
from engine.index.formula import Effect
from engine.index.reranking import SENTENCES_WEIGHT, WORDS_WEIGHT, _analyzed, by_sentences
from engine.index.search import Explain, Mode, Query
from engine.index.stages import Found, Staged, finish, reordered, rerank_by_sentences
from engine.index.words import Analyzer
from engine.types import Hit, Point, Sentences, Vector

QUERY = np.array([1, 0, 0], np.float32)


def hit(id: str, score: float, sentences: list[tuple[str, Vector]]) -> Hit:
    """A passage of these sentences."""
    text, spans = "", []
    for sentence, _ in sentences:
        spans.append((len(text), len(text) + len(sentence)))
        text += sentence + " "
    small = [np.round(127 * v / np.linalg.norm(v)).astype(np.int8) for _, v in sentences]
    kept = Sentences(np.array(spans, np.int32), np.stack(small)) if sentences else None
    return Hit(Point(id, None, text=text, sentences=kept), score)


def found(hits: list[Hit], effects: list[Effect] | None = None) -> Found:
    moved = effects or [Effect(1.0, 0.0)] * len(hits)
    return Found(tuple(hits), tuple(moved), Explain(Mode.DENSE, segments=1), 1)


def z(values: list[float]) -> list[float]:
    known = [v for v in values if not math.isnan(v)]
    mean = sum(known) / len(known)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in known) / len(known))
    return [0.0 if math.isnan(v) or deviation < 1e-9 else (v - mean) / deviation for v in values]


WORDS = ["red", "blue", "apple", "pear", "tree"]


@given(st.integers(1, 6), st.integers(0, 10_000), st.lists(st.sampled_from(WORDS), max_size=4))
def test_the_order_is_the_formulas(count: int, seed: int, query: list[str]) -> None:
    random = np.random.default_rng(seed)
    hits = []
    for n in range(count):
        sentences = [
            (" ".join(random.choice(WORDS, 3)), random.normal(size=3).astype(np.float32))
            for _ in range(random.integers(0, 4))
        ]
        hits.append(hit(str(n), float(random.normal()), sentences))
    said = [
        [set(h.point.text[a:b].split()) for a, b in h.point.sentences.spans.tolist()]
        if h.point.sentences
        else []
        for h in hits
    ]
    words = set(query)
    having = {w: sum(any(w in s for s in one) for one in said) for w in words}
    rarity = {w: math.log(1 + (count - having[w] + 0.5) / (having[w] + 0.5)) for w in words}
    best = []
    for h, one in zip(hits, said, strict=True):
        values = [math.nan]
        for row, sentence in enumerate(one):
            assert h.point.sentences is not None
            cosine = float(h.point.sentences.vectors[row].astype(float) @ QUERY) / 127
            share = sum(rarity[w] for w in words & sentence) / (sum(rarity.values()) or 1)
            values.append(cosine + WORDS_WEIGHT * share)
        best.append(max((v for v in values if not math.isnan(v)), default=math.nan))
    reranked = by_sentences(hits, QUERY, " ".join(query), plain_words)
    if all(math.isnan(v) for v in best):
        assert reranked is None
        return
    assert reranked is not None
    blended = [
        a + SENTENCES_WEIGHT * b for a, b in zip(z([h.score for h in hits]), z(best), strict=True)
    ]
    assert sorted(reranked.order) == list(range(count))
    expected = [1 / (1 + math.exp(-blended[n])) for n in reranked.order]
    assert list(reranked.scores) == pytest.approx(expected, abs=1e-4)
    assert list(reranked.scores) == sorted(reranked.scores, reverse=True)


@given(st.lists(st.sampled_from([*WORDS, "zqxjz", "ERR_42", "Äpfel", "C++ is", "日本語", ""])))
def test_sentences_are_analyzed_as_if_one_by_one(texts: list[str]) -> None:
    analyzers: list[Analyze] = [plain_words, Analyzer("en").words, lambda text: []]
    for analyze in analyzers:
        together = _analyzed(texts, analyze)
        for text, words in zip(texts, together, strict=True):
            whole_names = {word for word in analyze(text) if not word.isalnum()}
            assert frozenset(analyze(text)) - whole_names <= words <= frozenset(analyze(text))


def test_the_sentence_that_says_it_brings_its_passage_up() -> None:
    far = np.array([0, 1, 0], np.float32)
    hits = [
        hit("vague", 0.52, [("Something about an apple.", far), ("And red things.", far)]),
        hit("other", 0.51, [("Nothing of this.", far)]),
        hit("says it", 0.50, [("Unrelated.", far), ("The red apple fell.", QUERY)]),
    ]
    reranked = by_sentences(hits, QUERY, "red apple", plain_words)
    assert reranked is not None
    assert reranked.order[0] in (0, 2)
    same = [h._replace(score=0.5) for h in hits]
    again = by_sentences(same, QUERY, "red apple", plain_words)
    assert again is not None and again.order[0] == 2


def test_those_past_the_candidates_follow_in_their_order() -> None:
    near, far = QUERY, np.array([0, 1, 0], np.float32)
    hits = [
        hit("a", 1.0, [("a", far)]),
        hit("b", 1.0, [("b", near)]),
        hit("c", 0.9, [("c", near)]),
        hit("d", 0.8, [("d", near)]),
    ]
    staged = Staged(Query(limit=4), rerank=2)
    answer = rerank_by_sentences(found(hits), staged, QUERY, "", plain_words)
    assert answer is not None
    assert [h.point.id for h in answer.hits] == ["b", "a", "c", "d"]
    assert [h.rerank_score is None for h in answer.hits] == [False, False, True, True]
    assert [h.score for h in answer.hits] == [1.0, 1.0, 0.9, 0.8]
    assert finish(answer.hits, Staged(Query(limit=3))).hits == answer.hits[:3]


def test_a_boost_counts_after_the_reranking_too() -> None:
    near, far = QUERY, np.array([0, 1, 0], np.float32)
    hits = [hit("plain", 1.0, [("a", near)]), hit("boosted", 1.0, [("b", far)])]
    reranked = by_sentences(hits, QUERY, "", plain_words)
    assert reranked is not None and reranked.order == (0, 1)
    moved = reordered(found(hits, [Effect(1.0, 0.0), Effect(100.0, 0.0)]), reranked)
    assert [h.point.id for h in moved.hits] == ["boosted", "plain"]
    assert moved.hits[0].rerank_score == pytest.approx(100 * reranked.scores[1])


def test_without_sentences_there_is_nothing_to_rerank_by() -> None:
    assert by_sentences([hit("a", 1.0, [])], QUERY, "a", plain_words) is None
    assert by_sentences([], QUERY, "a", plain_words) is None
