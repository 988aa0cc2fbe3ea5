"""What users may rely on: chunks quote the document exactly, lose nothing and fit the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.documents.chunk import chunk
from engine.documents.embedding import embedding_text, passage_sentences
from engine.documents.pack import CHUNK_CHARS_MAX
from engine.documents.parse import parse_document
from engine.documents.parsed import BlockKind, Draft, Parsed, assemble
from engine.documents.units import WHOLE_CHARS_MAX, is_grapheme_boundary, split_units
from engine.errors import InvalidField
from engine.models import sentences
from engine.types import Sentences
from tests.engine.documents.strategies import (
    documents,
    merging,
    run_around,
    without_boilerplate,
    word_pieces,
)

_COUNTERS = st.sampled_from([word_pieces, merging])


@settings(max_examples=60, deadline=None)
@given(documents(), _COUNTERS, st.integers(16, 60), st.integers(0, 8))
def test_chunks_are_ordered_cover_the_text_and_fit(
    parsed: Parsed,
    count: Callable[[Sequence[str]], list[int]],
    tokens_max: int,
    overlap_tokens: int,
) -> None:
    chunks = chunk(parsed, count, tokens_max=tokens_max, overlap_tokens=overlap_tokens)
    searched = without_boilerplate(parsed)
    covered = 0
    for index, piece in enumerate(chunks):
        text = parsed.text[piece.span.start : piece.span.end]
        assert text and text == text.strip()
        assert count([text]) == [piece.tokens]
        assert piece.tokens <= tokens_max
        assert text == searched[piece.span.start : piece.span.end]
        assert searched[covered : max(covered, piece.span.start)].strip() == ""
        if index:
            before = chunks[index - 1].span
            assert before.start < piece.span.start and before.end < piece.span.end
            shared = parsed.text[piece.span.start : before.end]
            assert count([shared])[0] - 2 <= overlap_tokens + len(shared) // 100
        covered = piece.span.end
    assert searched[covered:].strip() == ""
    assert bool(chunks) == bool(parsed.text)


@settings(max_examples=100, deadline=None)
@given(documents(), _COUNTERS, st.integers(16, 60))
@example(assemble("", "text/plain", [Draft("paragraph", "👩‍👩‍👧" * 40)]), word_pieces, 16)
@example(assemble("", "text/plain", [Draft("paragraph", "x" * 2_500 + " y.")]), merging, 60)
@example(
    assemble("", "text/plain", [Draft("table", "| a b | " + "c d e, " * 40 + "|")]), merging, 60
)
def test_words_graphemes_and_rows_are_cut_only_where_one_alone_is_too_long(
    parsed: Parsed, count: Callable[[Sequence[str]], list[int]], tokens_max: int
) -> None:
    chunks = chunk(parsed, count, tokens_max=tokens_max, overlap_tokens=0)
    text = parsed.text
    for piece, following in pairwise(chunks):
        at = piece.span.end
        block = next(b for b in parsed.blocks if b.span.start < at <= b.span.end)
        if at == block.span.end:
            continue
        if block.kind == "table" and "\n" not in text[at : following.span.start]:
            row = run_around(text, at, lambda c: c != "\n")
            assert count([row.strip()])[0] > tokens_max or len(row) > WHOLE_CHARS_MAX
        if at == following.span.start and text[at - 1].isalnum() and text[at].isalnum():
            word = run_around(text, at, lambda c: not c.isspace())
            assert count([word])[0] > tokens_max or len(word) > WHOLE_CHARS_MAX
        if at == following.span.start and not is_grapheme_boundary(text, at):
            assert not any(
                is_grapheme_boundary(text, inside)
                for inside in range(piece.span.start + 1, piece.span.end)
            )


def _words(texts: Sequence[str]) -> list[int]:
    """As a model to which any run of letters is one token."""
    return [2 + len(text.split()) for text in texts]


@pytest.mark.parametrize("kind", ["table", "paragraph"])
@pytest.mark.parametrize("length", [1_500, 9_000])
def test_what_fits_a_chunk_is_whole_however_many_characters_it_has(
    kind: BlockKind, length: int
) -> None:
    if kind == "table":
        wholes = [f"| row {n} | {'c' * 390} | {'d' * (length - 390)} |" for n in range(20)]
    else:
        wholes = ["w" * (length + n) for n in range(20)]
    parsed = assemble("", "text/plain", [Draft(kind, "\n".join(wholes))])
    chunks = chunk(parsed, _words, tokens_max=24, overlap_tokens=0)
    quoted = [parsed.text[c.span.start : c.span.end] for c in chunks]
    assert [whole for quote in quoted for whole in quote.split("\n")] == wholes
    assert len(quoted) > 1 and all(len(quote) <= CHUNK_CHARS_MAX for quote in quoted)


@settings(max_examples=60, deadline=None)
@given(documents(), st.integers(1, 80))
def test_units_hold_all_but_boilerplate_and_are_long_only_to_keep_words_and_rows(
    parsed: Parsed, chars_max: int
) -> None:
    units = split_units(parsed, chars_max)
    assert "".join(without_boilerplate(parsed).split()) == "".join(
        "".join(parsed.text[u.span.start : u.span.end].split()) for u in units
    )
    for unit in units:
        text = parsed.text[unit.span.start : unit.span.end]
        row = parsed.blocks[unit.block].kind == "table" and "\n" not in text
        assert len(text) <= chars_max or row or len(text.split()) == 1
    for unit, following in pairwise(units):
        assert unit.span.end <= following.span.start
        between = parsed.blocks[unit.block + 1 : following.block]
        assert following.fenced == bool(between)


def test_a_row_too_long_for_a_chunk_is_cut_between_its_cells() -> None:
    cells = [f"cell number {n} of the row" for n in range(40)]
    row = "| " + " | ".join(cells) + " |"
    parsed = assemble("", "text/plain", [Draft("table", row)])
    chunks = chunk(parsed, word_pieces, tokens_max=60, overlap_tokens=0)
    found = [parsed.text[c.span.start : c.span.end] for c in chunks]
    assert len(found) > 3
    assert [cell.strip() for piece in found for cell in piece.strip("| ").split(" | ")] == cells


@pytest.mark.parametrize("boilerplate", ["Page 4 of 10", "© A site. All rights reserved."])
def test_boilerplate_is_in_no_chunk_unless_there_is_nothing_else(boilerplate: str) -> None:
    margin = Draft("paragraph", boilerplate, role="boilerplate")
    body = [Draft("paragraph", f"Sentence {n} of the body.") for n in range(4)]
    parsed = assemble("", "text/plain", [margin, *body[:2], margin, margin, *body[2:], margin])
    chunks = chunk(parsed, word_pieces)
    assert [parsed.text[c.span.start : c.span.end] for c in chunks] == [
        "Sentence 0 of the body.\n\nSentence 1 of the body.",
        "Sentence 2 of the body.\n\nSentence 3 of the body.",
    ]
    title = Draft("heading", "A title", level=1)
    titled = assemble("", "text/plain", [margin, title, margin, body[0], margin, title, margin])
    assert [titled.text[c.span.start : c.span.end] for c in chunk(titled, word_pieces)] == [
        f"A title\n\n{boilerplate}\n\nSentence 0 of the body.",
        "A title",
    ]
    alone = assemble("", "text/plain", [margin, margin])
    (only,) = chunk(alone, word_pieces)
    assert alone.text[only.span.start : only.span.end] == alone.text


@pytest.mark.parametrize(("media_type", "goes_on"), [("text/csv", True), ("text/html", False)])
def test_rows_of_a_table_that_is_cut_bring_its_header_as_context(
    media_type: str, goes_on: bool
) -> None:
    header = "| Planet | Moons |"
    rows = "\n".join(f"| Planet number {n} | {n} moons |" for n in range(12))
    drafts = [
        Draft("heading", "Bodies", level=1),
        Draft("table", f"{header}\n{rows}"),
        Draft("table", rows),
    ]
    parsed = assemble("Solar", media_type, drafts)
    first, *others = chunk(parsed, word_pieces, tokens_max=60, overlap_tokens=0)
    assert (first.context, len(others) > 3) == ("Solar", True)
    for piece in others:
        within_first = piece.span.start < parsed.blocks[2].span.start
        begins_second = piece.span.start == parsed.blocks[2].span.start
        if within_first or goes_on:
            assert piece.context == f"Solar > Bodies\n{header}"
        elif begins_second:
            assert piece.context == "Solar > Bodies"
    tight = chunk(parsed, word_pieces, tokens_max=60, overlap_tokens=0, context_tokens_max=9)
    assert tight[1].context == header


def test_a_chunk_never_ends_with_a_heading_that_has_something_below_it() -> None:
    drafts = []
    for section in range(30):
        drafts.append(Draft("heading", f"Section {section}", level=1 + section % 2))
        drafts += [Draft("paragraph", f"Word {n} of a sentence here.") for n in range(section % 7)]
    parsed = assemble("Report", "text/plain", drafts)
    headings = {b.span.end for b in parsed.blocks if b.kind == "heading"}
    chunks = chunk(parsed, word_pieces, tokens_max=40, overlap_tokens=8)
    assert len(chunks) > 5
    for piece in chunks[:-1]:
        blocks = [b for b in parsed.blocks if piece.span.start <= b.span.start < piece.span.end]
        assert piece.span.end not in headings or all(b.kind == "heading" for b in blocks)


def test_a_chunk_says_where_it_stands_and_its_context_leaves_out_what_it_holds() -> None:
    body = " ".join(f"Sentence number {n} stands here." for n in range(30))
    parsed = parse_document(f"# Guide\n\n{body}\n\n## Parts\n\n{body}".encode(), "guide.md")
    chunks = chunk(parsed, word_pieces, tokens_max=60, overlap_tokens=12)
    first, last = chunks[0], chunks[-1]
    assert (first.heading_path, first.context) == (("Guide",), "")
    assert (last.heading_path, last.context) == (("Guide", "Parts"), "Guide > Parts")
    opening = next(c for c in chunks if parsed.text[c.span.start :].startswith("Parts\n"))
    assert opening.context == "Guide"
    text = parsed.text[last.span.start : last.span.end]
    read = embedding_text(text, last.context)
    assert read.endswith(text) and word_pieces([read])[0] <= 60 + 48


def test_a_context_too_long_for_its_bound_gives_up_outer_headings_first() -> None:
    drafts = [
        Draft("heading", "An outer heading of quite a few words", level=1),
        Draft("heading", "Inner", level=2),
        *(Draft("paragraph", "One more sentence for the text here.") for _ in range(20)),
    ]
    parsed = assemble("", "text/plain", drafts)
    last = chunk(parsed, word_pieces, tokens_max=40, overlap_tokens=0, context_tokens_max=6)[-1]
    assert last.context == "Inner"


def test_a_pdf_chunk_knows_its_page() -> None:
    drafts = [Draft("paragraph", "All the words of a page. " * 8, page=n) for n in (1, 2, 3)]
    chunks = chunk(assemble("", "application/pdf", drafts), word_pieces, tokens_max=80)
    assert [c.page for c in chunks] == sorted(c.page for c in chunks)
    assert {c.page for c in chunks} == {1, 2, 3}


@pytest.mark.parametrize(
    ("field", "bounds"),
    [
        ("tokens_max", {"tokens_max": 15}),
        ("overlap_tokens", {"tokens_max": 20, "overlap_tokens": 11}),
        ("overlap_tokens", {"overlap_tokens": -1}),
        ("context_tokens_max", {"context_tokens_max": -1}),
    ],
)
def test_bounds_that_cannot_be_met_are_refused_by_name(field: str, bounds: dict[str, Any]) -> None:
    parsed = assemble("", "text/plain", [Draft("paragraph", "text")])
    with pytest.raises(InvalidField) as caught:
        chunk(parsed, word_pieces, **bounds)
    assert caught.value.field == field
    assert str(bounds[field]) in caught.value.message


def test_sentences_of_the_embedded_text_come_back_as_sentences_of_the_passage() -> None:
    text, context = "First one here. Second one there.", "A title without a stop > Part 1. More"
    read = embedding_text(text, context)
    found = sentences.split(read)
    spans = np.array([(span.start, span.end) for span in found], np.int32)
    vectors = np.arange(len(found) * 2, dtype=np.int8).reshape(-1, 2)
    own = passage_sentences(Sentences(spans, vectors), text, context)
    assert [text[a:b] for a, b in own.spans] == ["First one here.", "Second one there."]
    assert own.vectors.tolist() == vectors[-2:].tolist()
    assert passage_sentences(own, text, "").spans.tolist() == own.spans.tolist()
