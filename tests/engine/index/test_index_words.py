"""What users may rely on of words: texts that people think alike match, and no text is an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidField
from engine.index.words import QUERY_WORDS_MAX, STEMMERS, Analyzer, weighted

ENGLISH = Analyzer("en")


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None), max_size=80))
def test_every_text_has_words_that_postings_can_hold(text: str) -> None:
    for word in ENGLISH.words(text):
        assert word.encode() and len(word) <= 160


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_capitals_do_not_matter(text: str) -> None:
    if text.isascii():
        assert ENGLISH.words(text.upper()) == ENGLISH.words(text.lower())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Running dogs", ["run", "dog"]),
        ("it's e-mail", ["it", "s", "e", "mail"]),
        ("zero \ud800 and \x00", ["zero", "and"]),
        ("!!! ... — \u00ad", []),
        ("", []),
        ("x" * 41 + " x", ["x"]),
        ("я" * 40, ["я" * 40]),
        ("gRPC-Web", ["grpc", "web"]),
    ],
)
def test_words_are_runs_of_letters_and_digits_stemmed(text: str, words: list[str]) -> None:
    assert ENGLISH.words(text) == words


@pytest.mark.parametrize(
    ("text", "parts", "name"),
    [
        ("see ERR_42!", ["see", "err", "42"], "err_42"),
        ("C++ is", ["c", "is"], "c++"),
        ("in C#.", ["in", "c"], "c#"),
        ("v 1.2.3", ["v", "1", "2", "3"], "1.2.3"),
        ("größe_2", ["grosse", "2"], "größe_2"),
    ],
)
def test_what_is_written_as_one_name_is_also_one_word(
    text: str, parts: list[str], name: str
) -> None:
    assert ENGLISH.words(text) == [*parts, name]


@pytest.mark.parametrize("text", ["# heading", "a+b", "end.Start", "3. Third", "C++11", "#7", "__"])
def test_what_only_looks_like_a_name_is_no_word_more(text: str) -> None:
    assert all(word.isalnum() for word in ENGLISH.words(text))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café naïve", "cafe naive"),
        ("re\u0301sume\u0301", "résumé"),
        ("de\ufb01ne", "define"),
        ("\uff21\uff22\uff11", "ab1"),
        ("infor\u00admation", "information"),
        ("İSTANBUL", "istanbul"),
        ("ΣΊΣΥΦΟΣ", "Σίσυφοσ"),
    ],
)
def test_texts_that_look_alike_have_the_same_words(one: str, other: str) -> None:
    assert ENGLISH.words(one) == ENGLISH.words(other) != []


def test_languages_without_spaces_match_by_pairs_of_letters() -> None:
    text = ENGLISH.words("東京都は日本の首都であり、人口は約1400万人")
    assert {"東京", "京都", "首都", "1400"} <= set(text)
    assert set(ENGLISH.words("日本の首都")) <= set(text)
    assert ENGLISH.words("水") == ["水"]
    assert ENGLISH.words("한국어 text") == ["한국", "국어", "text"]


def test_marks_do_not_cut_words_of_any_script() -> None:
    assert len(ENGLISH.words("தமிழ்நாடு")) == 1
    assert len(ENGLISH.words("हिन्दी")) == 1


@pytest.mark.parametrize(
    ("language", "one", "other"),
    [
        ("de", "Häuser", "haus"),
        ("fr", "nationales", "nationale"),
        ("ru", "книги", "книга"),
        ("es", "canción", "canciones"),
        ("fi", "taloissa", "talossa"),
    ],
)
def test_the_language_of_a_collection_chooses_its_stems(
    language: str, one: str, other: str
) -> None:
    assert Analyzer(language).words(one) == Analyzer(language).words(other)
    assert Analyzer("").words(one) != Analyzer("").words(other)


def test_each_language_that_is_offered_works_and_another_is_refused() -> None:
    for language in STEMMERS:
        assert Analyzer(language).words("Text 1") != []
    with pytest.raises(InvalidField) as caught:
        Analyzer("xx")
    assert caught.value.metadata["language"] == "xx"
    assert "en" in caught.value.metadata["languages"].split(", ")


def test_a_query_weighs_repeated_words_and_has_a_bound() -> None:
    assert ENGLISH.query("cats and CATS and dogs") == {"cat": 2, "and": 2, "dog": 1}
    many = [f"w{n}" for n in range(QUERY_WORDS_MAX + 9)]
    assert weighted([*many, "w0", many[-1]]) == {
        "w0": 2,
        **dict.fromkeys(many[1:QUERY_WORDS_MAX], 1),
    }


def test_a_long_text_and_many_threads_are_no_trouble() -> None:
    text = "Some_name words of a text, naïve. " * 3_000
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ENGLISH.words, [text[:100_000]] * 8))
    assert len(found[0]) > 15_000 and all(one == found[0] for one in found)


@pytest.mark.parametrize(
    "text",
    [
        "1" * 99_999 + ".",
        "a" * 99_999 + "_",
        "a_" * 50_000,
        "+" * 100_000,
        "1." * 50_000,
        "日" * 100_000,
    ],
    ids=["digits", "letters", "name", "signs", "number", "pairs"],
)
def test_no_text_takes_long(text: str) -> None:
    """Looking for names from each character on would be five billion steps here."""
    assert len(ENGLISH.words(text)) <= len(text)
