"""What users may rely on: chunks quote the document exactly, lose nothing and fit the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.documents.chunk import chunk
from engine.documents.embedding import embedding_text, passage_sentences
from engine.documents.parse import parse_document
from engine.documents.parsed import Draft, Parsed, assemble
from engine.documents.units import is_grapheme_boundary, split_units
from engine.errors import InvalidField
from engine.models import sentences
from engine.types import Sentences
from tests.engine.documents.strategies import documents, merging, word_pieces

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
    covered = 0
    for index, piece in enumerate(chunks):
        text = parsed.text[piece.span.start : piece.span.end]
        assert text and text == text.strip()
        assert count([text]) == [piece.tokens]
        assert piece.tokens <= tokens_max
        assert parsed.text[covered : max(covered, piece.span.start)].strip() == ""
        if index:
            before = chunks[index - 1].span
            assert before.start < piece.span.start and before.end < piece.span.end
            shared = parsed.text[piece.span.start : before.end]
            assert count([shared])[0] - 2 <= overlap_tokens + len(shared) // 100
        covered = piece.span.end
    assert parsed.text[covered:].strip() == ""
    assert bool(chunks) == bool(parsed.text)


@settings(max_examples=60, deadline=None)
@given(documents(), st.integers(1, 80))
@example(assemble("", "text/plain", [Draft("paragraph", "👩‍👩‍👧" * 40)]), 7)
def test_units_never_cut_words_or_graphemes_that_would_fit(parsed: Parsed, chars_max: int) -> None:
    units = split_units(parsed, chars_max)
    assert "".join("".join(parsed.text.split())) == "".join(
        "".join(parsed.text[u.span.start : u.span.end].split()) for u in units
    )
    for unit, following in pairwise(units):
        assert unit.span.end <= following.span.start
        assert 0 < unit.span.end - unit.span.start <= chars_max
        at = unit.span.end
        inside_word = at == following.span.start and unit.block == following.block
        if inside_word and not is_grapheme_boundary(parsed.text, at):
            run = at - unit.span.start
            assert run == chars_max, "cut inside a grapheme that is shorter than a unit"


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
def test_bounds_that_cannot_be_met_are_refused_by_name(field: str, bounds: dict[str, int]) -> None:
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
