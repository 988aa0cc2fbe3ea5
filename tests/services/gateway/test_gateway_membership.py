"""Who is in the mesh, for every history of the registry."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.membership import Membership, from_json, merge, restore, to_json
from services.mesh.lease import NodeLease, RegistryView

TTL_S = 5.0
A = NodeLease("a", ("embedding",), "10.0.0.1:1", "SERVING")
B = NodeLease("b", ("embedding",), "10.0.0.2:1", "SERVING")
C = NodeLease("c", ("chat",), "10.0.0.3:1", "SERVING")


def after(*steps: tuple[float, RegistryView | tuple[NodeLease, ...]]) -> Membership:
    """The membership after looks at these times; a bare tuple is a registry readable since 0."""
    state = Membership()
    for now_s, step in steps:
        view = step if isinstance(step, RegistryView) else RegistryView(step, True, 0.0)
        state = merge(state, view, now_s, TTL_S)
    return state


def ids(state: Membership) -> list[str]:
    return [m.lease.node_id for m in state.members]


def test_a_lost_lease_removes_its_node_after_a_readable_ttl() -> None:
    history = ((0.0, (A, B)), (10.0, (A,)))
    assert ids(after(*history)) == ["a", "b"]
    assert ids(after(*history, (10.0 + TTL_S - 0.1, (A,)))) == ["a", "b"]
    assert ids(after(*history, (10.0 + TTL_S, (A,)))) == ["a"]


def test_an_unreadable_registry_removes_nobody_ever() -> None:
    lost = RegistryView((), False, 1e6)
    state = after((0.0, (A, B)), *((float(t), lost) for t in range(1, 1000)))
    assert ids(state) == ["a", "b"]


def test_a_registry_that_returns_empty_holds_the_old_set_for_two_ttls() -> None:
    history = (
        (0.0, (A, B)),
        (10.0, RegistryView((A, B), False, 10.0)),
        (11.0, RegistryView((), True, 11.0)),
    )
    before_end = RegistryView((), True, 11.0)
    assert ids(after(*history, (11.0 + 2 * TTL_S - 0.1, before_end))) == ["a", "b"]
    assert ids(after(*history, (11.0 + 2 * TTL_S, before_end))) == []


def test_a_flush_holds_everybody_for_two_ttls_although_one_is_back_soon() -> None:
    history = ((0.0, (A, B)), (10.0, ()), (11.0, (A,)))
    assert ids(after(*history, (10.0 + 2 * TTL_S - 0.1, (A,)))) == ["a", "b"]
    assert ids(after(*history, (10.0 + 2 * TTL_S, (A,)))) == ["a"]


def test_a_draining_node_stays_draining_and_goes_with_its_lease() -> None:
    draining = replace(B, state="DRAINING")
    state = after((0.0, (A, B)), (1.0, (A, draining)))
    assert [m.lease.state for m in state.members] == ["SERVING", "DRAINING"]
    assert ids(merge(state, RegistryView((A,), True, 0.0), 1.1, TTL_S)) == ["a"]


def test_a_node_that_restarts_at_its_address_replaces_itself() -> None:
    reborn = replace(A, node_id="a2")
    assert ids(after((0.0, (A, B)), (1.0, (reborn, B)))) == ["a2", "b"]


def test_a_restored_set_is_held_like_after_a_disturbance() -> None:
    state = restore((B, A), now_s=100.0)
    empty = RegistryView((), True, 100.0)
    assert ids(merge(state, empty, 100.0 + TTL_S, TTL_S)) == ["a", "b"]
    later = merge(state, empty, 100.0, TTL_S)
    assert ids(merge(later, empty, 100.0 + 2 * TTL_S, TTL_S)) == []


def test_the_kept_form_reads_back() -> None:
    assert from_json(to_json((A, C))) == (A, C)


_SETS = st.sets(st.sampled_from([A, B, C]))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[float, RegistryView]]:
    """Looks at rising times, readable or not, with `readable_since_s` as the registry keeps it."""
    now_s, since_s, found = 0.0, None, []
    leases: tuple[NodeLease, ...] = ()
    for _ in range(draw(st.integers(1, 25))):
        now_s += draw(st.floats(0.05, 2 * TTL_S))
        if draw(st.booleans()):
            since_s = now_s if since_s is None else since_s
            leases = tuple(sorted(draw(_SETS), key=lambda x: x.node_id))
            found.append((now_s, RegistryView(leases, True, since_s)))
        else:
            since_s = None
            found.append((now_s, RegistryView(leases, False, now_s)))
    return found


@given(histories())
def test_nobody_who_serves_is_removed_without_a_readable_ttl(
    history: list[tuple[float, RegistryView]],
) -> None:
    state = Membership()
    unseen_s: dict[str, float] = {}
    for now_s, view in history:
        before = {m.lease.node_id for m in state.members}
        state = merge(state, view, now_s, TTL_S)
        now = {m.lease.node_id for m in state.members}
        shown = {x.node_id for x in view.leases} if view.readable else set()
        assert shown <= now <= before | shown
        for node_id in before - now:
            assert view.readable
            assert now_s - max(unseen_s[node_id], view.readable_since_s) >= TTL_S
        for node_id in now - shown:
            if not view.readable:
                unseen_s.pop(node_id, None)
            else:
                unseen_s.setdefault(node_id, now_s)
        for node_id in shown:
            unseen_s.pop(node_id, None)


@given(st.permutations([A, B, C]))
def test_the_order_of_leases_does_not_matter(leases: list[NodeLease]) -> None:
    assert after((0.0, tuple(leases))) == after((0.0, (A, B, C)))
