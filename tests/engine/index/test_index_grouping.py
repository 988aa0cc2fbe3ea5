"""Groups are the best hits of each document or value, in the order of their best."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from engine.index.grouping import Grouping, group, is_full, values_at
from engine.types import Hit, Payload, Point, Span


def hit(
    id: str, score: float, payload: Payload | None = None, document: str = "", at: int = 0
) -> Hit:
    span = Span(at, at + 10) if document else None
    return Hit(Point(id, None, payload=payload or {}, document=document, span=span), score)


KEYS = st.sampled_from(["a", "b", "c", 1, 1.0, True, 0, False, None])


@given(st.lists(KEYS, max_size=20), st.integers(1, 5), st.integers(1, 4))
def test_groups_are_filtering_the_list_by_each_value(
    keys: list[str | float | bool | None], limit: int, per_group: int
) -> None:
    hits = [
        hit(f"{n:02}", -n, {} if key is None else {"a": {"key": key}}) for n, key in enumerate(keys)
    ]
    groups = group(hits, Grouping("a.key", per_group), limit)
    kinds = [(isinstance(key, bool), key) for key in keys if key is not None]
    firsts = list(dict.fromkeys(kinds))[:limit]
    assert [(isinstance(one.key, bool), one.key) for one in groups] == firsts
    for one, (is_bool, key) in zip(groups, firsts, strict=True):
        members = [
            h
            for h, k in zip(hits, keys, strict=True)
            if k == key and isinstance(k, bool) == is_bool
        ]
        assert list(one.hits) == members[:per_group]


def test_a_group_of_passages_spans_from_its_first_to_its_last() -> None:
    hits = [
        hit("d#2", 0.9, document="d", at=200),
        hit("alone", 0.8),
        hit("e#0", 0.7, document="e", at=0),
        hit("d#1", 0.6, document="d", at=100),
        hit("d#0", 0.5, document="d", at=0),
    ]
    first, alone, other = group(hits, Grouping(hits_per_group=2), 10)
    assert [h.point.id for h in first.hits] == ["d#2", "d#1"]
    assert (first.key, first.document, first.span) == ("d", "d", Span(100, 210))
    assert (alone.key, alone.document, alone.span) == ("alone", "", None)
    assert (other.document, other.span) == ("e", Span(0, 10))


def test_a_point_with_the_id_of_a_document_is_not_in_it() -> None:
    groups = group([hit("d", 1), hit("d#0", 0.5, document="d")], Grouping(), 10)
    assert [one.document for one in groups] == ["", "d"]


def test_a_group_of_a_field_across_documents_belongs_to_none() -> None:
    hits = [hit("d#0", 1, {"k": 1}, "d"), hit("e#0", 0.5, {"k": 1}, "e")]
    (one,) = group(hits, Grouping("k", 2), 10)
    assert (one.document, one.span) == ("", None)


def test_it_is_known_when_more_hits_change_nothing() -> None:
    grouping = Grouping("k", 2)
    hits = [hit("1", 1, {"k": 1}), hit("2", 0.9, {"k": 2}), hit("3", 0.8, {"k": 1})]
    assert not is_full(group(hits, grouping, 2), grouping, 2)
    more = [*hits, hit("4", 0.7, {"k": 2})]
    full = group(more, grouping, 2)
    assert is_full(full, grouping, 2)
    assert group([*more, hit("5", 0.6, {"k": 3}), hit("6", 0.5, {"k": 1})], grouping, 2) == full


def test_a_path_leads_through_objects_arrays_and_dotted_keys() -> None:
    payload: Payload = {"a": [{"b": [None, [3, "x"]]}, {"b": True}], "a.b": 7}
    assert list(values_at(payload, "a.b")) == [7, 3, "x", True]
    assert list(values_at(payload, "a")) == []
    assert list(values_at(payload, "a.b.c")) == []
