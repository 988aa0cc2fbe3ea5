"""What rules find in a turn: days, facts, preferences, tasks and events, each with its sentence."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.memory.dates import named_days
from engine.memory.extract import CHARACTERS_MAX, EXTRACTED_MAX, Extracted, Turn, extract
from engine.memory.kinds import Kind

MONDAY = datetime(2023, 5, 8, 13, 56, tzinfo=UTC)


def day(text: str) -> str:
    (found,) = named_days(text, MONDAY)
    return found.day.date().isoformat()


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("yesterday", "2023-05-07"),
        ("last night", "2023-05-07"),
        ("the day before yesterday", "2023-05-06"),
        ("tomorrow", "2023-05-09"),
        ("three days ago", "2023-05-05"),
        ("a couple of weeks ago", "2023-04-24"),
        ("two years ago", "2021-05-08"),
        ("in 10 days", "2023-05-18"),
        ("in a month", "2023-06-08"),
        ("last Friday", "2023-05-05"),
        ("last Monday", "2023-05-01"),
        ("next Monday", "2023-05-15"),
        ("this Friday", "2023-05-12"),
        ("on Saturday", "2023-05-06"),
        ("last weekend", "2023-05-06"),
        ("next week", "2023-05-15"),
        ("last month", "2023-04-01"),
        ("next year", "2024-01-01"),
        ("last August", "2022-08-01"),
        ("next March", "2024-03-01"),
        ("on 7 May 2023", "2023-05-07"),
        ("May 7th, 2021", "2021-05-07"),
        ("the 3rd of June", "2023-06-03"),
        ("December 24", "2022-12-24"),
        ("July 2022", "2022-07-01"),
        ("since 2019", "2019-01-01"),
        ("2024-02-29", "2024-02-29"),
    ],
)
def test_days_are_counted_from_when_it_was_said(said: str, meant: str) -> None:
    assert day(f"I was there {said}.") == meant


@pytest.mark.parametrize(
    "text", ["31 April 2023", "2023-02-30", "29 February 2023", "May I go?", "in the end", "1/2"]
)
def test_what_is_no_day_of_the_calendar_names_none(text: str) -> None:
    assert named_days(text, MONDAY) == []


def test_a_month_without_that_day_has_its_last_one() -> None:
    end = datetime(2023, 3, 31, tzinfo=UTC)
    assert named_days("a month ago", end)[0].day.date().isoformat() == "2023-02-28"


def only(text: str, speaker: str = "") -> Extracted:
    (found,) = extract(Turn(text, MONDAY, speaker))
    return found


@pytest.mark.parametrize(
    ("text", "kind", "slot", "value"),
    [
        ("My name is Ada Lovelace.", Kind.FACT, "name", "ada lovelace"),
        ("I live in Berlin now.", Kind.FACT, "home", "berlin"),
        ("I'm living in New York, which is loud.", Kind.FACT, "home", "new york"),
        ("Then I moved back to Paris!", Kind.FACT, "home", "paris"),
        ("I work at Acme and like it.", Kind.FACT, "employer", "acme"),
        ("I work as a nurse.", Kind.FACT, "occupation", "nurse"),
        ("My favorite color is blue.", Kind.PREFERENCE, "favorite color", "blue"),
        ("I love jazz.", Kind.PREFERENCE, "taste for jazz", "yes"),
        ("I don't like jazz.", Kind.PREFERENCE, "taste for jazz", "no"),
        ("I'm allergic to peanuts.", Kind.FACT, "allergic to peanuts", "yes"),
        ("I'm no longer allergic to peanuts.", Kind.FACT, "allergic to peanuts", "no"),
    ],
)
def test_facts_have_a_slot_and_a_value(text: str, kind: Kind, slot: str, value: str) -> None:
    found = next(one for one in extract(Turn(text, MONDAY)) if one.slot == slot)
    assert (found.kind, found.value) == (kind, value)


def test_tasks_and_events_have_their_day() -> None:
    task = only("Remind me to call the bank next Friday.")
    assert task.kind is Kind.TASK
    assert task.happens_at == datetime(2023, 5, 12, tzinfo=UTC)
    event = only("We went to the museum yesterday.")
    assert event.kind is Kind.EVENT
    assert event.happens_at == datetime(2023, 5, 7, tzinfo=UTC)
    assert event.valid_from == MONDAY


def test_a_fact_holds_since_the_day_it_names_but_not_since_one_to_come() -> None:
    assert only("I moved to Paris two years ago.").valid_from == datetime(2021, 5, 8, tzinfo=UTC)
    assert only("I live in Rome until 2030.").valid_from == MONDAY


def test_questions_say_nothing() -> None:
    assert extract(Turn("Do you think I live in Berlin? Is it true that I love tea?", MONDAY)) == []


def test_slots_of_different_speakers_do_not_meet() -> None:
    assert only("I live in Berlin.", "Ada").slot == "ada: home"
    assert only("I live in Berlin.", "Grace").slot == "grace: home"


def test_a_turn_makes_a_bounded_number_of_memories() -> None:
    text = " ".join(f"I love thing{i}." for i in range(2_000))
    assert len(extract(Turn(text, MONDAY))) == EXTRACTED_MAX
    assert extract(Turn("x" * CHARACTERS_MAX + ". I love tea.", MONDAY)) == []


SAID = (
    "I live in Berlin . my favorite color is red ! ? yesterday love don't like 31 April 2023 "
    "work at remind me to by last Friday"
)
WORDS = st.sampled_from([*SAID.split(), "\n", "\u2019", ""])


@given(st.lists(WORDS, max_size=60).map(" ".join) | st.text(max_size=200))
def test_evidence_is_exact_whatever_is_said(text: str) -> None:
    for one in extract(Turn(text, MONDAY)):
        assert text[one.span.start : one.span.end] == one.text
        assert one.text.strip() == one.text != ""
        assert bool(one.slot) == bool(one.value)
        assert one.valid_from <= MONDAY
        assert 0 <= one.importance <= 1


@given(st.text(max_size=200), st.integers(0, 40_000))
def test_days_are_found_in_any_text_at_any_time(text: str, days: int) -> None:
    now = datetime(1950, 1, 1, tzinfo=UTC) + timedelta(days=days)
    for found in named_days(text, now):
        assert found.day.tzinfo is UTC
        assert text[found.span.start : found.span.end]
