"""What of a conversation fits a budget: the newest turns whole, older ones that say something about
the question, and never more tokens than there is room for."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engine.memory.history import (
    Line,
    Turn,
    choose,
    ending,
    estimate,
    recent_of,
    relevances,
    to_embed,
    turns_of,
    word_scores,
)

LINES = st.lists(st.tuples(st.booleans(), st.integers(0, 60)), min_size=1, max_size=40)


def lines_of(given_lines: list[tuple[bool, int]]) -> list[Line]:
    return [Line(i, opens, tokens, f"line {i}") for i, (opens, tokens) in enumerate(given_lines, 1)]


def talk(*words: str, tokens: int = 10) -> list[Turn]:
    """One turn for each: a question and its answer."""
    lines = []
    for i, text in enumerate(words):
        lines.append(Line(2 * i + 1, True, tokens, text))
        lines.append(Line(2 * i + 2, False, tokens, "I see."))
    return turns_of(lines)


@given(LINES)
def test_turns_are_all_lines_in_order_each_opened_by_a_person(
    given_lines: list[tuple[bool, int]],
) -> None:
    lines = lines_of(given_lines)
    turns = turns_of(lines)
    assert [line for turn in turns for line in turn.lines] == lines
    assert all(turn.lines[0].opens for turn in turns[1:])
    assert not any(line.opens for turn in turns for line in turn.lines[1:])


@given(LINES, st.integers(0, 500), st.booleans(), st.data())
def test_a_budget_is_never_passed_and_nothing_is_taken_twice(
    given_lines: list[tuple[bool, int]], budget: int, keep_room: bool, data: st.DataObject
) -> None:
    lines = lines_of(given_lines)
    turns = turns_of(lines)
    recent = recent_of(turns, budget, keep_room=keep_room)
    older = len(turns) - recent
    scores = data.draw(st.lists(st.floats(0, 1), min_size=older, max_size=older))
    chosen = choose(turns, recent, scores, budget)
    taken = [*chosen.older, *chosen.recent]
    assert len(set(taken)) == len(taken)
    tokens = {line.index: line.tokens for line in lines}
    assert sum(tokens[index] for index in taken) == chosen.tokens <= budget
    assert list(chosen.older) == sorted(chosen.older)
    # The newest are the end of the branch, without a gap.
    assert list(chosen.recent) == [line.index for line in lines][len(lines) - len(chosen.recent) :]
    if sum(tokens.values()) <= budget:
        assert len(taken) == len(lines)


def test_everything_is_taken_where_it_fits() -> None:
    turns = talk("a", "b", "c")
    assert recent_of(turns, 60, keep_room=True) == 3
    assert choose(turns, 3, (), 60).recent == (1, 2, 3, 4, 5, 6)


def test_an_old_turn_about_the_question_goes_before_newer_small_talk() -> None:
    words = ["My dog is called Bruno."] + [f"The weather in town {i} is fine." for i in range(20)]
    turns = talk(*words)
    question = "What is the name of my dog?"
    recent = recent_of(turns, 100, keep_room=True)
    scores = word_scores(question, turns[: len(turns) - recent])
    chosen = choose(turns, recent, scores, 100)
    assert {1, 2} <= set(chosen.older)
    assert chosen.recent[-1] == 42
    assert chosen.relevance[1] > 0.4


def test_meaning_finds_what_has_none_of_the_words() -> None:
    turns = talk("My hound is Bruno.", "The rent is due.", "It rains.")
    question = np.array([1.0, 0.0], dtype=np.float32)
    near, far = question, np.array([0.0, 1.0], dtype=np.float32)
    scores = relevances(word_scores("puppy", turns), question, {0: near, 1: far, 2: far})
    assert scores[0] == 1.0 > max(scores[1:]) == 0.0


def test_only_some_of_a_long_past_are_compared_by_meaning() -> None:
    turns = talk(*(f"word{i} and more" for i in range(500)))
    compared = to_embed(word_scores("Tell me of word3 and word7.", turns))
    assert {3, 7, 499, 450} <= set(compared)
    assert len(compared) <= 88


def test_where_the_newest_turn_is_too_long_its_last_lines_are_taken() -> None:
    turns = turns_of([Line(1, True, 90, "long"), Line(2, False, 20, "short")])
    assert recent_of(turns, 50, keep_room=True) == 0
    assert choose(turns, 0, (), 50).recent == (2,)


def test_the_end_of_a_text_begins_with_a_word() -> None:
    text = "one two three four five"
    assert ending(text, 0.5) == "four five"
    assert ending(text, 1.0) == text
    assert ending("x" * 100, 0.1) == "x" * 10
    assert ending(text, 0.0) in ("", text[-1:])


def test_an_estimate_is_rather_too_many() -> None:
    assert estimate("") == 0
    assert estimate("The quick brown fox jumps.") >= 6
    assert estimate("これは文です") == 6
