"""What users may rely on: a passage says which pages, and which boxes on them, it lies on."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.documents.chunk import Chunk, chunk
from engine.documents.parsed import Block, Draft, Parsed, assemble
from engine.documents.places import PLACES_MAX, Place
from engine.types import Span
from tests.engine.documents.strategies import documents, word_pieces


def _within(parsed: Parsed, piece: Chunk) -> list[Block]:
    return [
        block
        for block in parsed.blocks
        if block.span.start < piece.span.end and piece.span.start < block.span.end
    ]


@settings(max_examples=100, deadline=None)
@given(documents(), st.sampled_from(["structure", "hierarchical"]))
def test_a_passage_lies_on_the_pages_of_its_blocks_in_the_smallest_boxes_around_them(
    parsed: Parsed, strategy: str
) -> None:
    for piece in chunk(parsed, word_pieces, tokens_max=40, overlap_tokens=8, strategy=strategy):  # type: ignore[arg-type]
        blocks = _within(parsed, piece)
        assert [place.page for place in piece.places] == sorted({b.page for b in blocks} - {0})
        for place in piece.places:
            boxes = [b.box for b in blocks if b.page == place.page and b.box is not None]
            edges = list(zip(*boxes, strict=True))
            around = (min(edges[0]), min(edges[1]), max(edges[2]), max(edges[3])) if boxes else None
            assert place.box == around


def test_places_are_bounded() -> None:
    drafts = [Draft("paragraph", "w", page=n, box=(1, 2, 3, 4)) for n in range(1, 100)]
    (piece,) = chunk(assemble("", "application/pdf", drafts), word_pieces)
    assert len(piece.places) == PLACES_MAX
    assert piece.places[-1] == Place(PLACES_MAX, (1, 2, 3, 4))


def test_a_shifted_chunk_is_the_same_in_the_whole_text() -> None:
    drafts = [Draft("paragraph", f"Sentence {n} of a paragraph.", page=2) for n in range(40)]
    parsed = assemble("", "text/plain", drafts)
    whole = "Before. " + parsed.text
    for piece in chunk(
        parsed, word_pieces, tokens_max=60, strategy="hierarchical", overlap_tokens=9
    ):
        moved = piece.shifted(8)
        for span, of in ((moved.span, piece.span), (moved.parent, piece.parent)):
            assert span is not None and of is not None
            assert whole[span.start : span.end] == parsed.text[of.start : of.end]
        assert (moved.places, moved.context, moved.tokens) == (
            piece.places,
            piece.context,
            piece.tokens,
        )
    assert Chunk(Span(0, 1), (), 0, 1).shifted(3) == Chunk(Span(3, 4), (), 0, 1)
