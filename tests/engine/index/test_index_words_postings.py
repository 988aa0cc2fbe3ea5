"""What the index may rely on of postings: the buffer, the sealed table and a merge say the same,
equal rows give equal bytes, and a reader sees its view while a writer writes."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import DataLoss
from engine.index.postings import FREQUENCY_MAX, WordBuffer, WordRows
from engine.index.word_table import Arrays, WordTable, merged

# The last two have equal CRC-32s, which the table sorts by.
TWINS = ("plumless", "buckeroo")
WORDS = st.sampled_from(["a", "b", "naïve", "日本", "x" * 40, *TWINS])
ROWS = st.lists(st.lists(WORDS, max_size=8), max_size=25)


def buffer_of(rows: list[list[str]]) -> WordBuffer:
    buffer = WordBuffer()
    buffer.append(0, rows)
    return buffer


def held(rows: WordRows, count: int) -> dict[str, dict[int, int]]:
    """By word, the rows that have it and how often."""
    found = {}
    for word in ["a", "b", "naïve", "日本", "x" * 40, *TWINS, "absent"]:
        postings = rows.postings(word, count)
        if postings is not None:
            positions = postings.positions.tolist()
            assert positions == sorted(set(positions)) != []
            found[word] = dict(zip(positions, postings.freqs.tolist(), strict=True))
    return found


def expected(rows: list[list[str]]) -> dict[str, dict[int, int]]:
    out: dict[str, dict[int, int]] = {}
    for row, words in enumerate(rows):
        for word, often in Counter(words).items():
            out.setdefault(word, {})[row] = often
    return out


def same(one: Arrays, other: Arrays) -> bool:
    return list(one) == list(other) and all(
        one[name].dtype == other[name].dtype and one[name].tobytes() == other[name].tobytes()
        for name in one
    )


def test_the_twins_are_twins() -> None:
    assert crc32(TWINS[0].encode()) == crc32(TWINS[1].encode())


@settings(max_examples=200, deadline=None)
@given(ROWS, st.integers(0, 25), st.lists(st.integers(0, 25), max_size=4))
def test_buffer_and_table_say_of_any_count_what_the_rows_say(
    rows: list[list[str]], count: int, cuts: list[int]
) -> None:
    count = min(count, len(rows))
    buffer = WordBuffer()
    for low, high in pairwise([0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]):
        buffer.append(low, rows[low:high])
    table = WordTable(WordTable.build(rows))
    for one in (buffer, table):
        assert held(one, count) == expected(rows[:count])
        assert one.lengths(count).tolist() == [len(words) for words in rows[:count]]
        assert one.rows == len(rows)
        assert one.nbytes > 0


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(ROWS, st.booleans(), st.randoms(use_true_random=False)), max_size=4))
def test_a_merge_is_the_table_of_the_rows_that_are_kept(
    sources: list[tuple[list[list[str]], bool, object]],
) -> None:
    given: list[tuple[WordRows, NDArray[np.int64]]] = []
    whole: list[list[str]] = []
    for rows, seal, chance in sources:
        kept = [row for row in range(len(rows)) if chance.random() < 0.6]  # type: ignore[attr-defined]
        one = WordTable(WordTable.build(rows)) if seal else buffer_of(rows)
        given.append((one, np.array(kept, np.int64)))
        whole += [rows[row] for row in kept]
    assert same(merged(given), WordTable.build(whole))


def test_a_merge_in_many_steps_is_a_merge_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    rows = [[f"w{n}" for n in row] for row in random.zipf(1.5, (300, 9)).tolist()]
    one = WordTable.build(rows)
    monkeypatch.setattr("engine.index.word_table._STEP", 7)
    monkeypatch.setattr("engine.index.word_table._BUILD_ROWS", 40)
    assert same(WordTable.build(rows), one)
    half = np.arange(150)
    halves: list[tuple[WordRows, NDArray[np.int64]]] = [
        (WordTable(one), half),
        (buffer_of(rows), half + 150),
    ]
    assert same(merged(halves), one)


def test_equal_rows_give_equal_bytes_whatever_came_before() -> None:
    rows = [["b", "a", *TWINS], [], ["a", TWINS[0], "b", "b"]]
    other = [list(reversed(words)) for words in rows]
    assert same(WordTable.build(rows), WordTable.build(other))
    longer = buffer_of([["gone", "a"], *rows])
    assert same(merged([(longer, np.arange(1, 4))]), WordTable.build(rows))


@settings(max_examples=100, deadline=None)
@given(ROWS, ROWS, st.integers(0, 25))
def test_rows_of_a_failed_commit_are_forgotten(
    rows: list[list[str]], again: list[list[str]], first: int
) -> None:
    first = min(first, len(rows))
    buffer = buffer_of(rows)
    buffer.append(first, again)
    assert held(buffer, buffer.rows) == expected([*rows[:first], *again])


def test_rows_come_one_after_the_other() -> None:
    with pytest.raises(ValueError, match="row 2 does not follow 1 rows"):
        buffer_of([["a"]]).append(2, [["b"]])
    with pytest.raises(ValueError, match="do not ascend"):
        merged([(buffer_of([["a"], ["b"]]), np.array([1, 0]))])


def test_a_word_may_be_repeated_beyond_every_number() -> None:
    buffer = buffer_of([["a"] * (FREQUENCY_MAX + 5)])
    for one in (buffer, WordTable(merged([(buffer, np.arange(1))]))):
        assert held(one, 1) == {"a": {0: FREQUENCY_MAX}}
        assert one.lengths(1).tolist() == [FREQUENCY_MAX + 5]


def test_a_table_opens_without_copying_arrays_that_nobody_may_write() -> None:
    arrays = WordTable.build([["a", "b"], ["a"]])
    for one in arrays.values():
        one.flags.writeable = False
    table = WordTable(arrays)
    postings = table.postings("a", 2)
    assert postings is not None and np.shares_memory(postings.positions, arrays["words.positions"])
    assert np.shares_memory(table.lengths(2), arrays["words.lengths"])


@pytest.mark.parametrize("name", list(WordTable.build([])))
def test_arrays_that_contradict_each_other_are_refused(name: str) -> None:
    arrays = WordTable.build([["a", "b"], ["a"]])
    missing = {key: one for key, one in arrays.items() if key != name}
    wrong = {**arrays, name: arrays[name].astype(np.float64)}
    short = {**arrays, name: arrays[name][:-1]}
    # One length less is a table of one row less, to which its owner's count will not fit.
    for damaged in (missing, wrong, *([] if name == "words.lengths" else [short])):
        with pytest.raises(DataLoss, match="contradict"):
            WordTable(damaged)


def test_a_reader_sees_its_view_while_a_writer_writes() -> None:
    buffer = WordBuffer()
    texts = [["common", f"w{n % 97}", f"only{n}"] for n in range(20_000)]
    buffer.append(0, texts[:50])
    done = threading.Event()

    def read() -> int:
        reads = 0
        while not done.is_set():
            count = buffer.rows // 2  # what a view published long ago would have
            found = buffer.postings("common", count)
            assert found is not None and found.positions.tolist() == list(range(count))
            assert buffer.lengths(count).tolist() == [3] * count
            every = buffer.flat(count)
            assert len(every.positions) == 3 * count
            assert len(every.terms) == 1 + min(97, count) + count
            reads += 1
        return reads

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for row in range(50, len(texts), 50):
                buffer.append(row, texts[row : row + 50])
        finally:
            done.set()
        assert all(one.result() > 0 for one in readers)
    assert buffer.rows == len(texts)
