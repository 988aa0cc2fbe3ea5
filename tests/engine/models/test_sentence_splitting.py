"""Sentences are found where readers find them, and their spans are exact for every text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.models.sentences import SENTENCE_CHARS_MAX, split

MIXED = st.text(
    alphabet=st.one_of(
        st.sampled_from(list("aZ9 .!?…。\n\t-*#|()[]\"'”:;,")), st.characters(codec="utf-8")
    ),
    max_size=300,
)


def _sentences(text: str) -> list[str]:
    return [text[span.start : span.end] for span in split(text)]


@given(st.one_of(MIXED, st.lists(MIXED, max_size=8).map("\n\n".join)))
def test_spans_are_exact_for_every_text(text: str) -> None:
    spans = split(text)
    covered = [False] * len(text)
    previous = 0
    for span in spans:
        assert previous <= span.start < span.end <= len(text)
        assert span.end - span.start <= SENTENCE_CHARS_MAX
        assert not text[span.start].isspace() and not text[span.end - 1].isspace()
        covered[span.start : span.end] = [True] * (span.end - span.start)
        previous = span.end
    assert all(c.isspace() for c, inside in zip(text, covered, strict=True) if not inside)


@pytest.mark.parametrize(
    "sentences",
    [
        ["One sentence.", "Another one!", "A third?"],
        ["Dr. Smith met Prof. Jones at St. Mary.", "They talked."],
        ["As shown in Fig. 2 and Eq. 3, it holds.", "See also Refs. 4 and 5."],
        ["Smith et al. showed this.", "Later work (Jones et al. 2010) agreed."],
        ["The value was 3.14 at p = 0.05.", "It rose to 2.7 vs. 1.2 before."],
        ["J. R. R. Tolkien wrote it.", "C. S. Lewis read it."],
        ["Patients had hepatitis B.", "The others had not."],
        ["He lives in the U.S. Army base.", "She moved to the U.S.", "They met there."],
        ["Use it, e.g. here, i.e. now.", "Genes (approx. 20) matter."],
        ["It was silenced.", "p53 was not.", "mRNA levels rose."],
        ["He said “stop.”", "She did."],
        ["It works (see below).", "[1] disagrees."],
        ["Really?!", "Yes..."],
        ["Results: 5 mg, etc. were given.", "Nothing else."],
        ["E. coli grew.", "S. aureus did not."],
        ["It happened on Jan. 5 at No. 10.", "She said no.", "Then it ended."],
        ["Visit https://example.org/a.b?c=d. for more.", "Done."],
    ],
)
def test_prose_is_split_where_readers_split_it(sentences: list[str]) -> None:
    assert _sentences(" ".join(sentences)) == sentences
    assert _sentences("\n".join(sentences)) == sentences


def test_a_line_break_within_a_sentence_does_not_end_it() -> None:
    assert _sentences("A sentence that\nwas wrapped. The\nnext one.") == [
        "A sentence that\nwas wrapped.",
        "The\nnext one.",
    ]


def test_headings_list_items_and_paragraphs_stand_alone() -> None:
    text = (
        "# Title of it\nFirst paragraph without a period\n\nSecond one:\n- an item\n"
        "* another item\n1. numbered. It goes on.\n2) second\n\n| a | b |\n| 1 | 2 |"
    )
    assert _sentences(text) == [
        "# Title of it",
        "First paragraph without a period",
        "Second one:",
        "- an item",
        "* another item",
        "1. numbered.",
        "It goes on.",
        "2) second",
        "| a | b |",
        "| 1 | 2 |",
    ]


def test_chinese_sentences_need_no_space() -> None:
    assert _sentences("第一句。第二句！第三句？「第四句。」完") == [  # noqa: RUF001
        "第一句。",
        "第二句！",  # noqa: RUF001
        "第三句？",  # noqa: RUF001
        "「第四句。」",
        "完",
    ]


def test_what_never_ends_is_cut_at_white_space() -> None:
    text = "word " * 1000
    sentences = _sentences(text)
    assert all(len(s) <= SENTENCE_CHARS_MAX and s.endswith("word") for s in sentences)
    assert " ".join(sentences) == text.strip()


@pytest.mark.parametrize(
    "text",
    ["." * 300_000 + "x", "a." * 150_000, "\n " * 150_000, "x" * 300_000, ". " * 150_000,
     "#" * 300_000, "(" * 300_000 + ". A", "A. " * 100_000, ".)" * 150_000, " \n" * 150_000 + "."],
)  # fmt: skip
def test_hostile_texts_take_linear_time(text: str) -> None:
    started = time.perf_counter()
    split(text)
    assert time.perf_counter() - started < 5
