"""What a reader may rely on where a sentence is called supported: its numbers, dates and names
stand in the passage at their place, and it denies what the passage denies."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.facts import read
from engine.answers.verify import Sources, common
from tests.engine.answers.worlds import passage

LINE = passage(
    "The Swiss Northern Railway opened the line from Zurich to Baden in August 1847. It was the "
    "first railway line that lay wholly in Switzerland. A fire destroyed most of the depot in "
    "1993, and it was built again within a year. The depot is not open on Mondays. It cost 2 "
    "million francs and has twenty-five tracks. The Northern Hockey League does not own the depot. "
    "The Lions beat the Bears 24–10 in the old hall.",  # noqa: RUF001
    "line",
)
LAKE = passage("Lake Zurich froze over in February 1963, when 150,000 people walked on it.", "lake")


def faults(sentence: str) -> set[str]:
    return set(Sources([LINE, LAKE]).check(sentence).faults)


@pytest.mark.parametrize(
    "sentence",
    [
        "The Swiss Northern Railway opened the line from Zurich to Baden in August 1847.",
        "In August 1847, the Swiss Northern Railway opened the line from Zurich to Baden.",
        "The line from Zurich to Baden was opened by the Swiss Northern Railway in 1847.",
        "The line opened in August 1847 and was the first one wholly in Switzerland.",
        "A fire destroyed most of the depot in 1993.",
        "The depot isn't open on Mondays.",
        "It cost 2,000,000 francs and has 25 tracks.",
        "The depot cost two million francs.",
        "The NHL does not own the depot.",
        "The Bears were beaten by the Lions 24–10 in the old hall.",  # noqa: RUF001
        "150000 people walked on Lake Zurich in February 1963.",
    ],
)
def test_what_a_passage_says_in_these_or_other_words_is_supported(sentence: str) -> None:
    assert faults(sentence) == set()


@pytest.mark.parametrize(
    ("sentence", "fault"),
    [
        ("It cost 3 million francs and has twenty-five tracks.", "NUMBER"),
        ("It cost 2 million francs and has twenty-six tracks.", "NUMBER"),
        ("It was the second railway line that lay wholly in Switzerland.", "NUMBER"),
        ("The Lions beat the Bears 10–24 in the old hall.", "NAME"),  # noqa: RUF001
        ("The Swiss Northern Railway opened the line in August 1993.", "DATE"),
        ("The Swiss Northern Railway opened the line in May 1847.", "DATE"),
        ("The depot is not open on Tuesdays.", "DATE"),
        ("The Swiss Northern Railway opened the line from Geneva to Baden in 1847.", "NAME"),
        ("The line from Baden to Zurich was opened in August 1847.", "NAME"),
        ("The Bears beat the Lions 24–10 in the old hall.", "NAME"),  # noqa: RUF001
        ("The Swiss Northern Railway did not open the line to Baden.", "NEGATION"),
        ("The depot is open on Mondays.", "NEGATION"),
        ("The Swiss Northern Railway closed the line from Zurich to Baden.", "NEGATION"),
        ("Bananas are a yellow fruit.", "NO_EVIDENCE"),
    ],
)
def test_what_says_something_else_has_a_fault(sentence: str, fault: str) -> None:
    found = faults(sentence)
    assert found
    # A score that is turned round is a number to one reader and a name's place to another.
    assert fault in found or {"NAME", "NUMBER"} >= found


def test_a_wrong_year_is_found_out_though_the_passage_has_it_elsewhere() -> None:
    assert "DATE" in faults("The line from Zurich to Baden was opened in August 1993.")


def test_evidence_is_the_sentence_that_says_it() -> None:
    verdict = Sources([LINE, LAKE]).check("Lake Zurich froze over in February 1963.")
    source = verdict.evidence[0]
    assert source.place == 1
    assert LAKE.text[source.span.start : source.span.end] == source.text
    assert Sources([LINE, LAKE]).check("Lake Zurich froze over.", frozenset({0})).faults


def test_nothing_supports_a_sentence_where_there_is_no_passage() -> None:
    assert Sources([]).check("The lake froze.").faults == ("NO_EVIDENCE",)
    assert Sources([replace(LINE, text="")]).check("The lake froze.").faults == ("NO_EVIDENCE",)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_gets_a_verdict(sentence: str, text: str) -> None:
    verdict = Sources([passage(text, "any")]).check(sentence)
    assert 0 <= verdict.coverage <= 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from("abc"), max_size=12), st.lists(st.sampled_from("abc"), max_size=12))
def test_the_common_subsequence_is_as_long_as_the_slow_way_finds(
    one: list[str], other: list[str]
) -> None:
    row = [0] * (len(other) + 1)
    for a in one:
        before = list(row)
        for at, b in enumerate(other, 1):
            row[at] = before[at - 1] + 1 if a == b else max(before[at], row[at - 1])
    assert common(one, other) == row[-1]


def test_a_hostile_sentence_takes_bounded_time() -> None:
    """Without bounds, the places of a thousand names against a thousand others took minutes."""
    names = [f"Name{chr(97 + i % 26)}{i}" for i in range(2_000)]
    said = passage(" ".join(reversed(names)), "names")
    begin_s = time.process_time()
    Sources([said]).check(" ".join(names))
    assert time.process_time() - begin_s < 20


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("2016-02-07", [("2016", "YEAR"), ("month 2", "MONTH"), ("7", "NUMBER")]),
        ("7 Feb 2016", [("7", "NUMBER"), ("month 2", "MONTH"), ("2016", "YEAR")]),
        ("twenty-five", [("25", "NUMBER")]),
        ("1,000 and 1.50", [("1000", "NUMBER"), ("and", "STOP"), ("1.5", "NUMBER")]),
        ("3rd", [("3", "NUMBER")]),
        ("can't", [("can", "STOP"), ("not", "NOT")]),
        ("1990s", [("1990", "YEAR"), ("s", "WORD")]),
    ],
)
def test_numbers_and_dates_are_read_by_value(text: str, kinds: list[tuple[str, str]]) -> None:
    assert [(token.key, token.kind) for token in read(text)] == kinds
