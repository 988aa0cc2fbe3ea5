"""A long text comes in sections that are, joined, the text that it would be in one piece."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.documents import clean as cleaning
from engine.documents import sections as module
from engine.documents.detect import detect
from engine.documents.encoding import decode, encoding_of
from engine.documents.numbering import numbered
from engine.documents.parse import parse_document
from engine.documents.parsed import Draft, Parsed, assemble
from engine.documents.sections import parse_in_sections, sections
from engine.errors import DocumentUnreadable

WORDS = st.text(st.sampled_from("ab é漢🙂\n"), min_size=1, max_size=60).filter(str.strip)
DRAFTS = st.lists(
    st.builds(
        Draft,
        st.sampled_from(["paragraph", "list_item", "code", "table"]),
        WORDS.map(str.strip),
    )
    | WORDS.map(lambda text: Draft("heading", text.strip(), 2)),
    min_size=1,
    max_size=20,
)


@given(DRAFTS, st.integers(5, 80), st.integers(1, 6))
def test_sections_joined_are_the_text_and_each_stands_by_itself(
    drafts: list[Draft], chars_max: int, blocks_max: int
) -> None:
    whole = assemble("Title", "text/plain", drafts, page_count=3)
    parts = list(sections(whole, chars_max=chars_max, blocks_max=blocks_max))
    assert "".join(part.text for part in parts) == whole.text
    said: list[tuple[str, str, tuple[str, ...]]] = []
    for part in parts:
        assert part == Parsed.from_json(part.to_json())
        assert (part.title, part.page_count) == (whole.title, 3)
        assert 0 < len(part.blocks) <= blocks_max
        for block in part.blocks:
            assert block.span.end - block.span.start <= chars_max
            text = part.text[block.span.start : block.span.end]
            said.append((block.kind, text, block.heading_path))
    # Cut blocks aside, the blocks are those of the whole.
    cut = iter(said)
    for block in whole.blocks:
        text = whole.text[block.span.start : block.span.end]
        got = ""
        while "".join(got.split()) != "".join(text.split()):
            kind, piece, path = next(cut)
            assert (kind, path) == (block.kind, block.heading_path)
            got += piece
    assert next(cut, None) is None


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252", "utf-16-le"])
def test_a_long_plain_text_is_read_in_pieces_as_in_one(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECTION_CHARS_MAX", 4_000)
    monkeypatch.setattr("engine.documents.encoding.PIECE_BYTES", 1_000)
    rng = random.Random(encoding)
    words = ["Straße", "café", "river", "and", "a", "garden", "über", "the", "hill."]
    text = "\n\n".join(
        " ".join(rng.choices(words, k=rng.randint(3, 90))) for _ in range(200)
    ).replace("\n\n", "\r\n\r\n", 40)
    data = text.encode(encoding)
    parts = list(parse_in_sections(data, "a.txt"))
    assert len(parts) > 10
    assert "".join(part.text for part in parts) == parse_document(data, "a.txt").text
    assert {part.language for part in parts} == {parts[0].language}


def test_one_line_without_end_is_cut_at_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECTION_CHARS_MAX", 4_000)
    monkeypatch.setattr("engine.documents.encoding.PIECE_BYTES", 1_000)
    data = " ".join(f"word{number}" for number in range(5_000)).encode()
    parts = list(parse_in_sections(data, "a.txt"))
    assert " ".join("".join(part.text for part in parts).split()) == data.decode()


def test_a_long_text_of_nothing_is_refused() -> None:
    with pytest.raises(DocumentUnreadable):
        list(parse_in_sections(b" \n" * 1_000_000, "a.txt"))


@given(st.binary(max_size=3_000))
def test_every_text_has_an_encoding_that_reads_all_of_it(data: bytes) -> None:
    found = encoding_of(data)
    assert isinstance(decode(data), str)
    data.decode(found.name, "replace")


@given(st.lists(st.sampled_from("abcdef")), st.lists(st.lists(st.sampled_from("abcdef"))))
def test_a_number_stays_with_its_text_and_is_never_given_to_another(
    first: list[str], later: list[list[str]]
) -> None:
    before: list[tuple[int, bytes]] = []
    meaning: dict[int, bytes] = {}
    free = 0
    for version in [first, *later]:
        now = [letter.encode() for letter in version]
        numbers, free = numbered(before, now, free)
        assert len(set(numbers)) == len(numbers) == len(now)
        for number, digest in zip(numbers, now, strict=True):
            assert meaning.setdefault(number, digest) == digest
        old = [digest for _, digest in before]
        kept = {number for number, _ in before} & set(numbers)
        assert len(kept) == sum(min(old.count(d), now.count(d)) for d in set(now))
        before = list(zip(numbers, now, strict=True))


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_cleaned_as_all_other_text_is(text: str) -> None:
    assert cleaning._plain(text) == cleaning._visible(text)


def test_what_a_long_text_is_gets_found_without_a_copy_of_it() -> None:
    data = b"  " + b"A sentence of words, and then some more.\n\n" * 600_000
    tracemalloc.start()
    try:
        assert detect(data, "long.txt", "") == "text/plain"
        assert encoding_of(data).name == "utf-8"
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(data) / 2
