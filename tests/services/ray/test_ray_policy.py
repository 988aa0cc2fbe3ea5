"""How many nodes a queue needs, and which nodes the settings want: values in, values out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidField
from services.config import RaySettings
from services.local.placement import Placement, cpus_needed, parse_amounts, placements
from services.ray.policy import BUSY_MAX, QUEUE_S, decide, policy

speeds = st.floats(0, 1e6)
loads = st.lists(st.tuples(st.floats(0, 1e8), speeds), min_size=1, max_size=20)
ALL = (("embedding",), ("retrieval", "documents"))


@given(loads, st.integers(1, 50), st.floats(1, 1e6))
def test_the_queue_is_empty_in_time_and_no_node_is_too_busy(
    load: list[tuple[float, float]], nodes: int, capacity: float
) -> None:
    waiting, done = [tokens for tokens, _ in load], [speed for _, speed in load]
    decision = decide(waiting, done, nodes, capacity)
    able = decision.nodes * decision.capacity
    assert able * QUEUE_S >= sum(waiting) * (1 - 1e-9)
    assert able * BUSY_MAX >= sum(done) * (1 - 1e-9)
    fewer = (decision.nodes - 1) * decision.capacity
    if decision.nodes > 1:
        needed = max(sum(waiting) / QUEUE_S, sum(done) / BUSY_MAX)
        assert fewer < needed * (1 + 1e-9)


@given(loads, st.integers(1, 50), st.floats(0, 1e6), st.floats(1, 10))
def test_a_longer_queue_never_needs_fewer_nodes(
    load: list[tuple[float, float]], nodes: int, capacity: float, times: float
) -> None:
    waiting, done = [tokens for tokens, _ in load], [speed for _, speed in load]
    longer = [tokens * times for tokens in waiting]
    now, then = decide(waiting, done, nodes, capacity), decide(longer, done, nodes, capacity)
    assert then.nodes >= now.nodes


def test_a_queue_that_empties_goes_back_to_one_node() -> None:
    decision = decide([50_000.0, 50_000.0], [5_000.0, 5_000.0], 2, 0.0)
    assert decision.nodes == math.ceil(100_000 / (5_000 * QUEUE_S))
    assert decide([0.0] * 10, [0.0] * 10, decision.nodes, decision.capacity).nodes == 1


def test_what_a_node_can_do_is_not_forgotten_while_nothing_waits() -> None:
    decision = decide([100.0], [5_000.0], 1, 0.0)
    for _ in range(36_000):
        decision = decide([0.0], [0.0], decision.nodes, decision.capacity)
    assert decide([8_000.0], [0.0], 1, decision.capacity).nodes == 1


def test_nodes_that_say_nothing_change_nothing() -> None:
    assert decide([], [], 3, 700.0) == decide([], [], 3, 700.0)
    assert decide([], [], 3, 700.0).nodes == 3


def test_a_queue_before_the_speed_is_known_asks_for_one_more() -> None:
    assert decide([10.0], [0.0], 1, 0.0).nodes == 2
    assert decide([0.0], [0.0], 1, 0.0).nodes == 1


def test_it_speaks_to_serve_and_remembers_what_a_node_can_do() -> None:
    context = SimpleNamespace(
        aggregated_metrics={
            "tokens_waiting": {"a": 40_000.0, "b": 0.0},
            "tokens_per_s": {"a": 4_000.0, "b": 1_000.0},
        },
        target_num_replicas=2,
        policy_state={},
    )
    nodes, state = policy(context)
    assert nodes == 5
    context.aggregated_metrics = {"tokens_waiting": {"a": 8_000.0}, "tokens_per_s": {"a": 10.0}}
    context.policy_state = state
    assert policy(context)[0] == 2
    context.aggregated_metrics = None
    assert policy(context)[0] == 2


def test_a_group_takes_what_any_of_its_services_is_given() -> None:
    ray = RaySettings(
        replicas=dict(parse_amounts("embedding=1..4, documents=2")),
        cpus={"embedding": 2},
        gpus={"embedding": 0.5},
    )
    embedding, rest = placements(ALL, ray)
    assert embedding == Placement(("embedding",), 1, 4, 2.0, 0.5)
    assert rest == Placement(("retrieval", "documents"), 2, 2, 1.0, 0.0)
    assert rest.name == "retrieval-documents"
    assert cpus_needed([embedding, rest]) == 2 * (4 + 1) + (2 + 1)


@pytest.mark.parametrize(
    ("ray", "named"),
    [
        (RaySettings(replicas={"chat": 2}), "chat"),
        (RaySettings(replicas={"embedding": 0}), "0"),
        (RaySettings(replicas={"embedding": "4..2"}), "4..2"),
        (RaySettings(replicas={"embedding": "many"}), "many"),
        (RaySettings(replicas={"retrieval": 1, "documents": 2}), "1 and 2"),
        (RaySettings(cpus={"embedding": -1}), "-1 CPUs"),
    ],
)
def test_amounts_that_make_no_sense_are_refused_by_name(ray: RaySettings, named: str) -> None:
    with pytest.raises(InvalidField) as refused:
        placements(ALL, ray)
    assert named in refused.value.message


@pytest.mark.parametrize("text", ["embedding", "=2", "embedding=", "embedding:2"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InvalidField):
        parse_amounts(text)


def test_two_groups_of_the_same_services_are_refused() -> None:
    with pytest.raises(InvalidField, match="--ray-replicas"):
        placements((("embedding",), ("embedding",)), RaySettings())
