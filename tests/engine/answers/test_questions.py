"""What becomes of a question before it is searched: it stands alone, is taken apart, and is asked
another way where little was found. One that needs none of it stays as it is, to the letter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.parts import PARTS_MAX, parts
from engine.answers.requery import GROUNDING_MIN, grounding, interleaved, other_query
from engine.answers.rewrite import Turn, needs_context, rewritten
from tests.engine.answers.worlds import passage

LINE = Turn(
    "When was the railway line from Zurich to Baden opened?",
    "The Swiss Northern Railway opened the line in August 1847.",
)
TOWER = Turn("Who designed the Eiffel Tower?", "Gustave Eiffel's company designed the tower.")


@pytest.mark.parametrize(
    ("question", "turn", "whole"),
    [
        ("Who built it?", LINE, "Who built the railway line from Zurich to Baden?"),
        ("And Lucerne?", LINE, "When was the railway line from Zurich to Lucerne opened?"),
        ("Why?", LINE, "Why was the railway line from Zurich to Baden opened?"),
        ("When was he born?", TOWER, "When was Gustave Eiffel born?"),
        ("What is its height?", TOWER, "What is the Eiffel Tower's height?"),
        ("What about 1963?", Turn("Who won the cup in 1950?"), "Who won the cup in 1963?"),
    ],
)
def test_a_question_takes_from_the_conversation_what_it_leaves_out(
    question: str, turn: Turn, whole: str
) -> None:
    assert needs_context(question)
    assert rewritten(question, [turn]) == whole


def test_what_a_turn_took_from_the_one_before_is_still_known() -> None:
    turns = [Turn("Who was Marie Curie?", "A chemist."), Turn("When did she die?", "In 1934.")]
    assert rewritten("Where was she born?", turns) == "Where was Marie Curie born?"


@pytest.mark.parametrize(
    "question",
    [
        "When was the line opened?",
        "How long does it take to cross the Alps?",
        "What did Ada Lovelace write, and whom did she write to?",
        "Is it true that lakes freeze?",
        "",
        "?",
    ],
)
def test_a_question_that_stands_alone_stays_as_it_is(question: str) -> None:
    assert rewritten(question, [LINE, TOWER]) == question
    assert rewritten("Who built it?", []) == "Who built it?"


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.text(max_size=80))
def test_any_text_can_be_a_question_or_a_turn(question: str, asked: str, answered: str) -> None:
    assert isinstance(rewritten(question, [Turn(asked, answered)]), str)
    assert 1 <= len(parts(question)) <= PARTS_MAX


@pytest.mark.parametrize(
    ("question", "found"),
    [
        (
            "When was the line opened and who built it?",
            ("When was the line opened?", "Who built the line?"),
        ),
        ("What is BM25? How is it computed?", ("What is BM25?", "How is BM25 computed?")),
        ("Who are Ada and Grace?", ("Who are Ada and Grace?",)),
        ("Where and when was Tesla born?", ("Where and when was Tesla born?",)),
    ],
)
def test_a_question_is_cut_only_where_another_one_begins(
    question: str, found: tuple[str, ...]
) -> None:
    assert parts(question) == found


def test_questions_of_the_corpus_are_not_taken_apart() -> None:
    corpus = Path(__file__).parents[3] / "corpus" / "questions.json"
    questions = [one["question"] for one in json.loads(corpus.read_text())["questions"]]
    assert all(parts(question) == (question,) for question in questions)


RIVER = passage("The river Limmat flows through Baden. Baden has hot springs.", "river")
LENGTH = passage("The Limmat is 36 km long.", "length")


def test_what_was_found_says_what_to_look_for_next() -> None:
    question = "How long is the river that flows through Baden?"
    assert grounding(question, [RIVER]) > grounding(question, [LENGTH])
    assert "Limmat" in other_query(question, [RIVER, LENGTH])
    assert "long" in other_query(question, [RIVER])
    assert other_query("Where is Baden?", [passage("baden lies low.", "b")]) == ""


def test_grounding_is_all_or_nothing_at_its_ends() -> None:
    assert grounding("Which springs does Baden have?", []) == 0.0
    assert grounding("Who is it?", [RIVER]) == 1.0
    assert grounding("Baden springs", [RIVER]) == 1.0 >= GROUNDING_MIN


def test_lists_take_turns() -> None:
    assert interleaved([1, 2, 3], [4]) == [1, 4, 2, 3]
    assert interleaved() == []
