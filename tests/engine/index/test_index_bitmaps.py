"""Sealed payload columns: they answer as the meaning of a filter says, exactly and at any size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import sleep
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pyroaring import BitMap

from engine.index import bitmaps, packing
from engine.index.bitmaps import BitmapIndex, bitmap_at, bitmap_of, mask_of
from engine.index.conditions import (
    And,
    DatetimeRange,
    Equals,
    Exists,
    Filter,
    HasAll,
    HasWords,
    In,
    IsNull,
    Not,
    Or,
    Range,
    ValuesCount,
    matches,
    plain_words,
)
from engine.index.filters import canonical
from engine.index.packing import pack_payloads
from engine.index.payloads import PayloadIndex
from engine.types import Point
from tests.engine.index.filter_cases import FILTERS, PAYLOADS


@pytest.fixture(autouse=True, params=[2, 1_024], ids=["many-heavy", "few-heavy"])
def heavy_rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways to find a value's rows, also in small worlds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing, "HEAVY_ROWS", request.param)
        yield


def sealed(payloads: list[dict[str, Any]], **arguments: Any) -> BitmapIndex:
    """An index over arrays that can't be written, as those of a mapped file can't."""
    arrays = pack_payloads(payloads)
    for array in arrays.values():
        array.flags.writeable = False
    return BitmapIndex(arrays, payloads.__getitem__, **arguments)


@settings(max_examples=300, deadline=None)
@given(st.lists(PAYLOADS, max_size=12), FILTERS)
def test_sealed_columns_agree_with_the_meaning_of_a_filter_and_with_the_buffer(
    payloads: list[dict[str, Any]], filter: Filter
) -> None:
    index = sealed(payloads)
    expected = [row for row, payload in enumerate(payloads) if matches(filter, payload)]
    assert list(index.matching(filter)) == expected
    assert list(index.matching(canonical(filter))) == expected
    buffer = PayloadIndex([Point(str(row), None, payload=one) for row, one in enumerate(payloads)])
    assert np.flatnonzero(buffer.mask(filter, len(payloads))).tolist() == expected


def _varied(count: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(7)
    return [
        {
            "id": f"user-{row}",
            "tenant": f"t{row % 50}",
            "lang": ["en", "de", "fr"][row % 3],
            "year": 1990 + int(random.integers(30)),
            "price": float(random.random()),
            "tags": [f"tag{n}" for n in random.integers(0, 40, 3)] + [None] * (row % 7 == 0),
            "meta": {"at": f"20{row % 30:02d}-0{1 + row % 9}-11T0{row % 10}:00:00+0{row % 5}:00"},
            "title": f"Graph {row % 500} of {'search' if row % 11 else 'order'}",
            **({"draft": row % 4 == 0} if row % 5 else {}),
        }
        for row in range(count)
    ]


FILTERS_OF_MANY: list[Filter] = [
    Equals("lang", "de"),
    Equals("id", "user-69999"),
    Equals("year", 2003),
    Equals("draft", True),
    In("id", tuple(f"user-{n}" for n in range(0, 140_000, 140))),
    In("lang", ("de", "fr", "nl")),
    In("tenant", tuple(f"t{n}" for n in range(30))),
    In("year", (1991, 2500, True, "x", 2004)),
    HasAll("tags", ("tag1", "tag2")),
    Range("price", gte=0.25, lt=0.75),
    Range("price", gt=0.9999),
    Range("year", gte=2000, lt=2010),
    Range("id", gte="user-1", lt="user-2"),
    Range("lang", gt="de"),
    DatetimeRange("meta.at", gte="2005-01-01", lt="2010-06-11T00:00:00Z"),
    HasWords("title", "graph order"),
    HasWords("title", "17 order", any=True),
    Exists("draft"),
    IsNull("tags"),
    ValuesCount("tags", gte=3),
    ValuesCount("draft", lte=0),
    ValuesCount("tags", gte=1, lte=2),
    Exists("nothing"),
    Not(Equals("lang", "de")),
    And((Equals("lang", "de"), Range("price", lt=0.5), Not(Equals("year", 2000)))),
    And((Not(Equals("lang", "de")), Not(Range("price", lt=0.5)))),
    Or((Equals("lang", "de"), Range("price", lt=0.01), Not(Exists("draft")))),
]
MANY = _varied(70_000)


def test_columns_of_many_rows_agree_with_the_meaning_of_a_filter() -> None:
    index = sealed(MANY)
    chosen = [*range(0, len(MANY), 97), *range(65_400, 65_700)]
    for filter in FILTERS_OF_MANY:
        found = index.matching(filter)
        mask = mask_of(found, len(MANY))
        assert len(found) == np.count_nonzero(mask)
        expected = [matches(filter, MANY[row]) for row in chosen]
        assert mask[chosen].tolist() == expected, filter


@pytest.mark.parametrize("share", [0.0, 1e-4, 0.02, 0.06, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("count", [0, 1, 300, 65_535, 65_536, 65_537, 400_001])
def test_masks_and_bitmaps_are_two_forms_of_one_set(share: float, count: int) -> None:
    random = np.random.default_rng(count)
    mask = random.random(count) < share
    positions = np.flatnonzero(mask)
    bitmap = bitmap_of(mask)
    assert bitmap == BitMap(positions.tolist())
    assert (mask_of(bitmap, count) == mask).all()
    shuffled = random.permutation(np.concatenate([positions, positions[:5]])).astype(np.uint32)
    assert bitmap_at(shuffled, count) == bitmap


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 300_000), st.integers(0, 90_000)), max_size=8))
def test_bitmaps_with_runs_become_masks(runs: list[tuple[int, int]]) -> None:
    count = 300_001
    expected = np.zeros(count, np.bool_)
    bitmap = BitMap()
    for start, length in runs:
        expected[start : start + length] = True
        bitmap.add_range(start, min(start + length, count))
    for optimized in (False, True):
        if optimized:
            bitmap.run_optimize()
        assert (mask_of(bitmap, count) == expected).all()


def test_rows_with_more_paths_than_columns_are_still_filtered_right(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packing, "SEALED_PATHS_MAX", 8)
    payloads: list[dict[str, Any]] = [{"all": row % 2, f"user-{row}": row} for row in range(30)]
    read: list[int] = []

    def payload_of(row: int) -> dict[str, Any]:
        read.append(row)
        return payloads[row]

    index = BitmapIndex(pack_payloads(payloads), payload_of)
    for row in (0, 6, 7, 29):
        assert list(index.matching(Equals(f"user-{row}", row))) == [row]
        assert len(index.matching(Not(Equals(f"user-{row}", row)))) == 29
    assert list(index.matching(And((Equals("all", 1), Exists("user-29"))))) == [29]
    assert not index.matching(Exists("nobody"))
    assert len(index.matching(ValuesCount("nobody", lte=0))) == 30
    assert min(read) == 7, "rows whose paths all have columns are not read"


def test_columns_are_equal_for_equal_payloads_however_their_keys_are_ordered() -> None:
    payloads = _varied(300)
    arrays = pack_payloads(payloads)
    other = pack_payloads([dict(reversed(payload.items())) for payload in payloads])
    assert arrays.keys() == other.keys()
    for name, array in arrays.items():
        assert array.dtype == other[name].dtype
        assert array.tobytes() == other[name].tobytes(), name


def test_strings_are_analyzed_once_and_as_the_collection_says() -> None:
    analyzed: list[str] = []

    def stem(text: str) -> list[str]:
        analyzed.append(text)
        return [word.rstrip("s") for word in plain_words(text)]

    index = sealed([{"t": "Graphs"}, {"t": "graph"}, {"t": "Graphs"}], analyze=stem)
    for _ in range(3):
        assert list(index.matching(HasWords("t", ("graph",)))) == [0, 1, 2]
    assert sorted(analyzed) == ["Graphs", "graph"]


def test_strings_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def two_hashes(strings: Sequence[str]) -> NDArray[np.uint64]:
        return np.array([len(string) % 2 for string in strings], np.uint64)

    monkeypatch.setattr(packing, "hash_ids", two_hashes)
    monkeypatch.setattr(bitmaps, "hash_ids", two_hashes)
    payloads = [{"a": "x" * (row % 10)} for row in range(30)]
    index = sealed(payloads)
    for length in range(12):
        expected = [row for row in range(30) if row % 10 == length]
        assert list(index.matching(Equals("a", "x" * length))) == expected
    assert len(index.matching(In("a", ("x", "xxx", "xx", "y")))) == 9


def test_searches_for_words_at_once_analyze_the_strings_once() -> None:
    started = Barrier(4)
    analyzed: list[str] = []

    def slow(text: str) -> list[str]:
        analyzed.append(text)
        sleep(0.001)
        return plain_words(text)

    index = sealed([{"t": f"row {n}"} for n in range(20)], analyze=slow)

    def search(wanted: int) -> list[int]:
        started.wait()
        return list(index.matching(HasWords("t", (str(wanted),))))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(search, range(4))) == [[0], [1], [2], [3]]
    assert len(analyzed) == 20


def test_words_of_few_paths_are_kept_and_all_are_found() -> None:
    paths = [f"p{n}" for n in range(bitmaps.TEXT_PATHS_MAX * 2)]
    index = sealed([{path: f"only {path}" for path in paths}])
    for _ in range(2):
        for path in paths:
            assert list(index.matching(HasWords(path, path))) == [0]
    kept = index.nbytes
    index.matching(HasWords(paths[0], "only"))
    assert index.nbytes <= kept


def test_arrays_that_do_not_agree_are_refused() -> None:
    arrays = pack_payloads(_varied(10))
    with pytest.raises(KeyError):
        BitmapIndex({}, lambda row: {})
    for name in ("payload.table", "payload.words.entries", "payload.words.hashed"):
        with pytest.raises(ValueError, match="do not agree"):
            BitmapIndex({**arrays, name: arrays[name][:-1]}, lambda row: {})
