"""What users may rely on of search by words: no text is an error, and filters lose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidField
from engine.index import CollectionIndex, IndexSettings, Query, search
from engine.index.filters import Equals, Range, matches
from engine.types import Point
from tests.engine.index.sealing import loaded

TEXTS = [
    "Running dogs chase the cats",
    "A dog runs; cats sleep",
    "Naïve café users write 日本語 text",
    "AND OR NOT brackets (unbalanced",
    "\ud800 broken surrogate and \x00 zero",
]


def _index(texts: list[str], language: str = "en") -> CollectionIndex:
    points = [Point(f"{n:05d}", None, text, {"n": n, "odd": n % 2}) for n, text in enumerate(texts)]
    return loaded(IndexSettings(2, language=language), points)


@pytest.fixture(scope="module")
def small() -> CollectionIndex:
    return _index(TEXTS)


@pytest.fixture(scope="module")
def large() -> CollectionIndex:
    rng = np.random.default_rng(3)
    words = [f"word{n}" for n in range(300)]
    return _index([" ".join(rng.choice(words, 12)) for _ in range(4_000)])


def _ids(index: CollectionIndex, text: str) -> list[int]:
    return [int(hit.point.id) for hit in search(index.view, Query(text=text)).hits]


@settings(max_examples=200, deadline=None)
@given(
    st.text(st.characters(codec=None), max_size=60)
    | st.lists(
        st.sampled_from(
            ["AND", "OR", "NOT", "(", ")", '"', "text:", "*", "~", "[a TO", "dog", "\\"]
        ),
        max_size=12,
    ).map(" ".join)
)
def test_no_text_is_an_error(small: CollectionIndex, text: str) -> None:
    if text:
        hits = search(small.view, Query(text=text)).hits
        assert all(hit.lexical_score == hit.score > 0 for hit in hits)


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("dog", {0, 1}),
        ("RUN", {0, 1}),
        ("naïve", {2}),
        ("日本語", {2}),
        ("brackets) OR", {3}),
        ("surrogates", {4}),
        ("zero \ud800", {4}),
        ("!!! ...", set()),
        ("nothing-like-it", set()),
        ("x" * 100_000, set()),
        ("dog " * 20_000, {0, 1}),
    ],
)
def test_words_match_by_stem_and_nothing_else_matters(
    small: CollectionIndex, text: str, ids: set[int]
) -> None:
    assert set(_ids(small, text)) == ids


def test_the_language_of_a_collection_chooses_its_stems() -> None:
    german = _index(["Die Häuser stehen", "Ein Hund"], "de")
    assert _ids(german, "haus") == [0]
    plain = _index(["running dogs"], "")
    assert (_ids(plain, "run"), _ids(plain, "Running")) == ([], [0])
    with pytest.raises(InvalidField) as caught:
        _index([], "xx")
    assert caught.value.metadata["language"] == "xx"


@pytest.mark.parametrize(
    "filter",
    [Equals("odd", 1), Range("n", lt=1_000), Range("n", gte=3_990), Equals("n", -1)],
    ids=["half", "set", "few", "none"],
)
@pytest.mark.parametrize("limit", [1, 10, 300])
def test_a_filtered_search_is_the_whole_search_filtered(
    large: CollectionIndex, filter: Equals | Range, limit: int
) -> None:
    for text in ("word1", "word7 word8 word9", "word250 absent"):
        filtered = search(large.view, Query(text=text, filter=filter, limit=limit)).hits
        whole = search(large.view, Query(text=text, limit=1_000)).hits
        assert len(whole) < 1_000
        expected = [hit for hit in whole if matches(filter, hit.point.payload)][:limit]
        assert [hit.point.id for hit in filtered] == [hit.point.id for hit in expected]
        assert [h.score for h in filtered] == pytest.approx([h.score for h in expected], rel=1e-5)


def test_equal_texts_come_in_the_order_of_their_ids() -> None:
    index = CollectionIndex(IndexSettings(2))
    ids = [f"{n * 7919 % 500:03d}" for n in range(500)]
    index.apply([Point(id, None, "the same text") for id in ids], [], 1, "a")
    hits = search(index.view, Query(text="same", limit=5)).hits
    assert [hit.point.id for hit in hits] == ["000", "001", "002", "003", "004"]
