"""The simulation of more nodes agrees with what is known without it."""

from __future__ import annotations

import pytest

from benchmarks.simulation import calls_per_s


def test_one_node_answers_as_fast_as_it_works() -> None:
    assert calls_per_s([0.5], nodes=1, callers=4, calls=1_000) == pytest.approx(2.0)
    assert calls_per_s([0.5], nodes=1, callers=1, calls=1_000) == pytest.approx(2.0)


def test_one_caller_keeps_one_node_busy_however_many_there_are() -> None:
    assert calls_per_s([0.5], nodes=8, callers=1, calls=1_000) == pytest.approx(2.0)


@pytest.mark.parametrize("nodes", [2, 8, 32])
def test_more_nodes_answer_more_and_never_more_than_so_many_alone(nodes: int) -> None:
    times = [0.05, 0.1, 0.2]
    alone = 1 / (sum(times) / len(times))
    found = calls_per_s(times, nodes=nodes, callers=4 * nodes, calls=2_000 * nodes)
    fewer = calls_per_s(times, nodes=nodes // 2, callers=2 * nodes, calls=1_000 * nodes)
    assert fewer < found < nodes * alone * 1.05
    assert found > 0.8 * nodes * alone
