"""What users may rely on: answers quote their passages exactly, and are not given on thin air."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.check import check
from engine.answers.cite_markers import read_markers
from engine.answers.context import assemble
from engine.answers.evidence import Answer, Passage
from engine.answers.extractive import Settings, answer
from engine.answers.words import coverage, rarity, terms
from engine.errors import InvalidField, InvalidVector
from engine.models import default
from engine.models.encoder import Encoder
from engine.types import Span
from tests.engine.answers.worlds import FILES, passage, passages_of_files, vector

_WORDS = ["red", "blue", "fox", "lynx", "runs", "sleeps", "river\n", "stone", "É", "漢字", "42"]
_SENTENCE = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=9).map(
    lambda words: " ".join(words).strip() + "."
)
_TEXT = st.lists(_SENTENCE, min_size=1, max_size=5).map(" ".join)
_PASSAGES = st.lists(_TEXT, max_size=5).map(
    lambda texts: [passage(t, f"p{i}", score=1 / (1 + i)) for i, t in enumerate(texts)]
)
_ALWAYS = Settings(confidence_min=0.0)


@settings(max_examples=100, deadline=None)
@given(_SENTENCE, _PASSAGES, st.integers(1, 4))
def test_every_citation_of_an_answer_holds_and_lies_where_the_answer_says(
    question: str, passages: list[Passage], sentences_max: int
) -> None:
    given_answer = answer(
        question, vector(question), passages, sentences_max=sentences_max, settings=_ALWAYS
    )
    checked = check(given_answer.citations, passages)
    assert checked.rejected == ()
    assert len(checked.verified) <= sentences_max
    assert 0 <= given_answer.confidence <= 1
    for citation in given_answer.citations:
        place = citation.answer_span
        assert given_answer.text[place.start : place.end].split() == citation.quote.split()
        assert 0 <= citation.score <= 1
    quotes = [citation.quote for citation in given_answer.citations]
    assert len(set(quotes)) == len(quotes)
    assert bool(given_answer.text) == (given_answer.reason == "") == bool(quotes)


def test_the_sentence_that_answers_is_chosen_over_its_neighbors() -> None:
    text = "The fox is red. The lynx sleeps by the river. Stones are gray."
    found = answer("Where does the lynx sleep?", vector("lynx sleep"), [passage(text)])
    assert found.citations[0].quote == "The lynx sleeps by the river."
    assert found.citations[0].span == Span(16, 45)


def test_headings_and_questions_are_not_given_as_answers() -> None:
    text = "How lynxes sleep\n\nWhere does the lynx sleep? The lynx sleeps by the river."
    found = answer("Where does the lynx sleep?", vector("lynx sleep"), [passage(text)])
    assert found.text == "The lynx sleeps by the river."


def test_the_same_sentence_in_two_passages_is_given_once() -> None:
    twice = [passage("The lynx sleeps by the river.", name) for name in ("a", "b")]
    found = answer("Where does the lynx sleep?", vector("lynx sleep"), twice)
    assert found.text == "The lynx sleeps by the river."


def test_passages_without_vectors_are_answered_from_by_words() -> None:
    bare = replace(passage("The fox is red. The lynx sleeps by the river."), sentences=None)
    found = answer("Where does the lynx sleep?", vector("x"), [bare], settings=_ALWAYS)
    assert found.citations[0].quote == "The lynx sleeps by the river."


def test_without_passages_or_support_the_reason_is_named() -> None:
    assert answer("Why?", vector("why"), []) == Answer("", (), 0.0, "NO_PASSAGE")
    assert answer("Why?", vector("why"), [passage("")]).reason == "NO_PASSAGE"
    thin = answer("Where does the lynx sleep?", vector("zzz"), [passage("Stones are gray.")])
    assert (thin.text, thin.citations, thin.reason) == ("", (), "LOW_SUPPORT")
    assert 0 < thin.confidence < Settings().confidence_min


def test_bad_arguments_are_refused_by_name() -> None:
    with pytest.raises(InvalidField, match="sentences_max is 0"):
        answer("q", vector("q"), [], sentences_max=0)
    with pytest.raises(InvalidVector, match="64 numbers"):
        answer("q", np.ones(3, np.float32), [passage("Text.")])
    with pytest.raises(InvalidVector):
        answer("q", np.full(64, np.nan, np.float32), [passage("Text.")])
    for bounds in ({"tokens_max": 0}, {"tokens_max": 5, "passages_max": 0}):
        with pytest.raises(InvalidField, match="at least 1"):
            assemble([], **bounds)


@settings(max_examples=100, deadline=None)
@given(_PASSAGES, st.integers(1, 60), st.integers(1, 6))
def test_a_context_keeps_to_its_budget_and_order_and_accounts_for_every_passage(
    passages: list[Passage], tokens_max: int, passages_max: int
) -> None:
    context = assemble(passages, tokens_max, passages_max=passages_max)
    assert context.tokens == sum(p.tokens for p in context.passages) <= tokens_max
    assert len(context.passages) <= passages_max
    kept = [p.key for p in context.passages]
    left = [p.key for p, _ in context.dropped]
    assert sorted(kept + left) == sorted(p.key for p in passages)
    assert kept == [p.key for p in passages if p.key in set(kept)]


def test_a_copy_of_a_passage_is_dropped_and_an_overlapping_neighbor_is_kept() -> None:
    words = [f"word{n}" for n in range(120)]
    first, copy = " ".join(words[:70]), " ".join([*words[2:70], "more"])
    context = assemble(
        [passage(first, "a"), passage(copy, "b"), passage(" ".join(words[60:]), "c")], 1000
    )
    assert [p.document for p in context.passages] == ["a", "c"]
    assert [(p.document, reason) for p, reason in context.dropped] == [("b", "DUPLICATE")]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quote": "The lynx sleeps by the River."}, "QUOTE_DIFFERS"),
        ({"span": Span(0, 28)}, "QUOTE_DIFFERS"),
        ({"span": Span(0, 900)}, "SPAN_OUTSIDE"),
        ({"span": Span(-5, 3)}, "SPAN_OUTSIDE"),
        ({"span": Span(3, 3), "quote": ""}, "SPAN_OUTSIDE"),
        ({"point_id": "another"}, "UNKNOWN_PASSAGE"),
        ({"collection": "another"}, "UNKNOWN_PASSAGE"),
    ],
)
def test_a_citation_changed_in_any_way_is_rejected_with_the_reason(
    change: dict[str, object], reason: str
) -> None:
    passages = [passage("The lynx sleeps by the river.")]
    (true,) = answer("Where does the lynx sleep?", vector("lynx sleep"), passages).citations
    forged = replace(true, **change)  # type: ignore[arg-type]
    checked = check([true, forged], passages)
    assert checked.verified == (true,)
    assert [(r.citation, r.reason) for r in checked.rejected] == [(forged, reason)]


def test_markers_become_real_quotes_and_those_that_lie_are_reported() -> None:
    passages = [
        passage("Foxes are red. The lynx sleeps by the river at noon.", "a"),
        passage("Stones are gray. Water boils at 100 degrees.", "b"),
    ]
    text = (
        "A lynx is sleeping by the river [1]. Water boils at 100 degrees. [2, 9] "
        "Cats rule the world [2]. Nothing cited here."
    )
    marked = read_markers(text, passages)
    assert [c.quote for c in marked.citations] == [
        "The lynx sleeps by the river at noon.",
        "Water boils at 100 degrees.",
    ]
    assert check(marked.citations, passages).rejected == ()
    first = marked.citations[0].answer_span
    assert text[first.start : first.end] == "A lynx is sleeping by the river [1]."
    assert [(u.number, u.reason) for u in marked.unverified] == [
        (9, "UNKNOWN_PASSAGE"),
        (2, "LOW_OVERLAP"),
    ]


@settings(max_examples=100, deadline=None)
@given(st.text("ab [1,2].\n【】", max_size=60), _PASSAGES)
def test_any_text_of_a_model_gives_only_citations_that_hold(
    text: str, passages: list[Passage]
) -> None:
    marked = read_markers(text, passages)
    assert check(marked.citations, passages).rejected == ()
    places = [c.answer_span for c in marked.citations] + [u.answer_span for u in marked.unverified]
    assert all(0 <= place.start < place.end <= len(text) for place in places)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("studies", "study"),
        ("stopped", "stop"),
        ("requests", "request's"),
        ("needed", "needs"),
        ("slowly", "slow"),
        ("classes", "class"),
        ("cleaning", "cleaned"),
    ],
)
def test_forms_of_a_word_count_as_one(one: str, other: str) -> None:
    assert terms(one) == terms(other)


def test_rare_words_weigh_more_and_unknown_ones_most() -> None:
    weights = rarity([["lynx", "sleep"], ["sleep"], ["sleep", "fox"]])
    assert coverage(["lynx", "sleep"], ["lynx"], weights) > 0.8
    assert coverage(["lynx", "zebra"], ["lynx"], weights) == 0.5
    assert coverage([], ["lynx"], weights) == 0.0


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder.load(default.directory(), tmp_path_factory.mktemp("models"), threads=2)


def test_the_demo_questions_are_answered_from_the_right_files_and_the_odd_one_is_not(
    encoder: Encoder,
) -> None:
    names = ["what-is-ragmesh.md", "operations.html", "retrieval-notes.pdf"]
    found = passages_of_files(encoder, names)
    questions = json.loads((FILES.parent / "questions.json").read_text())["questions"]
    own = [q for q in questions if set(q["documents"]) <= set(names)]
    assert len(own) == 4
    for entry in own:
        query = encoder.embed([entry["question"]], "query").vectors[0]
        scored = [replace(p, score=float(v @ query)) for p, v in found]
        best = sorted(scored, key=lambda p: -p.score)[:6]
        given_answer = answer(entry["question"], query, best)
        if not entry["documents"]:
            assert given_answer.reason == "LOW_SUPPORT"
        else:
            assert given_answer.citations[0].document in entry["documents"]
            assert check(given_answer.citations, best).rejected == ()


def test_the_corpus_is_what_its_attribution_says() -> None:
    corpus = Path(FILES.parent)
    with gzip.open(corpus / "scifact.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    ids = [row["_id"] for row in rows]
    assert len(ids) == len(set(ids)) == 600
    assert ids == sorted(ids, key=int)
    assert all(row["title"] and len(row["text"]) > 50 for row in rows)
    known = set(ids) | {path.name for path in FILES.iterdir()}
    questions = json.loads((corpus / "questions.json").read_text())["questions"]
    assert all(set(q["documents"]) <= known for q in questions)
    assert any(not q["documents"] for q in questions)
