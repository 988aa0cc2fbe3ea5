"""Decisions about memories: which fact holds when, what comes first and why, what says the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.memory.consolidating import MEMORIES_MAX, Mergeable, merges
from engine.memory.ranking import Candidate, Weights, rank, rank_sessions, recency
from engine.memory.times import Held, place

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(days: float) -> datetime:
    return START + timedelta(days=days)


def learned(facts: list[tuple[str, int]]) -> list[Held]:
    """A slot after these facts, each a value and the day from which it holds, one after the
    other."""
    held: dict[str, Held] = {}
    for number, (value, since) in enumerate(facts):
        placed = place(value, at(since), list(held.values()))
        if placed.known:
            continue
        for closed in placed.closes:
            held[closed] = replace(held[closed], valid_to=at(since))
        held[str(number)] = Held(str(number), value, at(since), placed.valid_to)
    return list(held.values())


FACTS = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 20)), max_size=12)


@given(FACTS)
def test_at_most_one_fact_of_a_slot_holds_at_any_time(facts: list[tuple[str, int]]) -> None:
    held = learned(facts)
    for day in range(-1, 22):
        holding = [one for one in held if one.holds_at(at(day)) and one.valid_from != one.valid_to]
        assert len(holding) <= 1


@given(st.lists(st.integers(0, 20), max_size=12))
def test_a_fact_holds_on_its_first_day_whenever_it_is_learned(days: list[int]) -> None:
    held = learned([(f"value {number}", since) for number, since in enumerate(days)])
    last = {since: f"value {number}" for number, since in enumerate(days)}
    for since, value in last.items():
        assert [one.value for one in held if one.holds_at(at(since))] == [value]


def test_what_is_known_is_no_news_and_what_came_back_is() -> None:
    held = learned([("berlin", 0), ("paris", 10)])
    assert place("paris", at(30), held).known == "1"
    assert place("berlin", at(30), held).closes == ("1",)
    assert place("rome", at(5), held).valid_to == at(10)


def candidate(name: str, **fields: object) -> Candidate:
    given = Candidate(name, 0.5, 1.0, 0.5, START)
    return replace(given, **fields)  # type: ignore[arg-type]


def test_relevance_comes_first_then_recency_and_importance() -> None:
    ranked = rank(
        [
            candidate("old", learned_at=at(-300)),
            candidate("new"),
            candidate("important", learned_at=at(-300), importance=1.0),
            candidate("off", meaning=0.1, words=None, importance=1.0),
        ],
        START,
    )
    assert [one.id for one in ranked] == ["new", "important", "old", "off"]
    new, off = ranked[0].reasons, ranked[-1].reasons
    assert new.recent and new.by_words and not new.important
    assert off.important and not off.by_words


def test_without_weights_only_relevance_counts() -> None:
    weights = Weights(recency=0.0, importance=0.0)
    ranked = rank([candidate("a", learned_at=at(-900)), candidate("b")], START, weights)
    assert ranked[0].score == ranked[1].score == 1.0


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(0, 50), st.floats(0, 1)), max_size=20))
def test_factors_are_shares_whatever_the_legs_say(found: list[tuple[float, float, float]]) -> None:
    given = [
        candidate(f"m{i:02}", meaning=meaning, words=words, importance=importance)
        for i, (meaning, words, importance) in enumerate(found)
    ]
    ranked = rank(given, at(10))
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    for one in ranked:
        assert 0 <= one.reasons.relevance <= 1 and 0 <= one.reasons.recency <= 1


def test_recency_halves_and_the_future_is_now() -> None:
    assert recency(at(-30), START, 30) == pytest.approx(0.5)
    assert recency(at(30), START, 30) == 1


def test_a_session_that_has_all_the_words_goes_before_one_that_has_half_of_them() -> None:
    ranked = rank(
        [
            candidate("a", text="Ada talks about her violin", session="one", words=2.0),
            candidate("b", text="Ada plays the violin", session="two", words=1.9),
            candidate("c", text="A concert in Vienna", session="two", words=1.0),
            candidate("d", text="Nobody", session=""),
        ],
        START,
    )
    sessions = rank_sessions("When did Ada play the violin in a concert in Vienna?", ranked)
    assert [(one.session, one.memories) for one in sessions] == [("two", 2), ("one", 1)]
    assert rank_sessions("Anything?", []) == []


def memory(name: str, text: str, **fields: object) -> Mergeable:
    return replace(Mergeable(name, "fact", text, 0.5, START), **fields)  # type: ignore[arg-type]


def test_what_says_the_same_is_merged_into_the_most_important() -> None:
    found = merges(
        [
            memory("a", "Ada adopted a small dog named Rex."),
            memory("b", "Ada adopted the small dog named Rex!", importance=0.9),
            memory("c", "Ada adopted a small dog named Rex", kind="event"),
            memory("d", "Ada did not adopt a small dog named Rex."),
            memory("e", "Ada has 2 cats."),
            memory("f", "Ada has 3 cats."),
            memory("g", ""),
            memory("h", ""),
        ],
        10,
    )
    assert [(one.kept, one.merged) for one in found] == [("b", ("a",))]


SAID = ("red", "blue", "dog", "cat", "not", "3", "4", "runs", "home", "far")
TEXTS = st.lists(st.lists(st.sampled_from(SAID), max_size=6).map(" ".join), max_size=25)


@given(TEXTS, st.integers(0, 5))
def test_merges_lose_nothing_and_stay_within_their_bound(texts: list[str], limit: int) -> None:
    given = [memory(f"m{i:02}", text) for i, text in enumerate(texts)]
    found = merges(given, limit)
    assert len(found) <= limit
    named = [name for one in found for name in (one.kept, *one.merged)]
    assert len(named) == len(set(named)) <= len(given)
    assert found == merges(list(reversed(given)), limit)


def test_more_memories_than_a_round_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="at most"):
        merges([memory(str(i), "x") for i in range(MEMORIES_MAX + 1)], 1)
