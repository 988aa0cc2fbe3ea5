"""A plan makes a collection what the folder is, touches nothing else, and is then empty."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.commands.ingest_plan import Action, Stored, deletes_many, planned

PLACES = st.sampled_from([f"/{folder}/{name}" for folder in "ab" for name in "wxyz"])
CONTENTS = st.sampled_from([b"1", b"2", b"3"])
DISK = st.dictionaries(PLACES, st.none() | CONTENTS)
THERE = st.dictionaries(PLACES, st.tuples(CONTENTS, st.booleans()))


def stored(there: dict[str, tuple[bytes, bool]]) -> dict[str, Stored]:
    """Documents whose ids are their first places."""
    return {place: Stored(place, *of) for place, of in there.items()}


def done(
    actions: list[Action], on_disk: dict[str, bytes | None], there: dict[str, Stored]
) -> dict[str, Stored]:
    """What is there after all actions, where all succeed."""
    after = dict(there)
    for action in actions:
        if action.deed == "delete":
            del after[action.place]
        elif action.deed != "keep":
            content = on_disk[action.place]
            assert content is not None
            after[action.place] = Stored(action.place, content)
        if action.deed == "move":
            del after[action.before]
    return after


@given(DISK, THERE)
def test_afterwards_the_collection_mirrors_what_could_be_seen(
    on_disk: dict[str, bytes | None], of: dict[str, tuple[bytes, bool]]
) -> None:
    there = stored(of)
    actions = planned(on_disk, there)
    after = done(actions, on_disk, there)
    for place in after.keys() | there.keys() | on_disk.keys():
        if place in on_disk:
            content = on_disk[place]
            if content is None:  # not to be touched
                assert after.get(place) == there.get(place)
            else:
                assert after[place] == Stored(after[place].document, content)
        else:
            assert place not in after
    assert {a.deed for a in planned(on_disk, after)} <= {"keep"}, "a second run does nothing"


@given(DISK, THERE)
def test_each_file_and_each_document_is_in_one_action(
    on_disk: dict[str, bytes | None], of: dict[str, tuple[bytes, bool]]
) -> None:
    there = stored(of)
    actions = planned(on_disk, there)
    assert Counter(a.place for a in actions if a.deed != "delete") == Counter(
        place for place, content in on_disk.items() if content is not None
    )
    documents = [a.document for a in actions if a.document]
    assert len(documents) == len(set(documents))
    assert set(documents) <= {one.document for one in there.values()}
    deeds = [a.deed for a in actions]
    assert "delete" not in deeds[: len(deeds) - deeds.count("delete")], "deletions come last"
    assert actions == planned(dict(reversed(on_disk.items())), dict(reversed(there.items())))


@given(DISK, THERE)
def test_what_moved_has_the_bytes_that_were_searchable_before(
    on_disk: dict[str, bytes | None], of: dict[str, tuple[bytes, bool]]
) -> None:
    there = stored(of)
    actions = planned(on_disk, there)
    for action in actions:
        if action.deed == "move":
            assert there[action.before] == Stored(action.document, on_disk[action.place] or b"")
            assert action.before not in on_disk
    added = Counter(on_disk[a.place] or b"" for a in actions if a.deed == "add")
    deleted = Counter(
        there[a.place].sha256 for a in actions if a.deed == "delete" and not there[a.place].failed
    )
    assert not added & deleted, "nothing is added and deleted that could have been moved"


@given(st.integers(0, 200), st.integers(0, 200))
def test_somebody_is_asked_before_much_is_deleted(deletions: int, kept: int) -> None:
    actions = [Action("delete", str(i), str(i)) for i in range(deletions)]
    asks = deletes_many([*actions, Action("keep", "x")], deletions + kept)
    assert asks or deletions <= 10 or deletions <= 0.1 * (deletions + kept)
    assert not asks or deletions > 10
