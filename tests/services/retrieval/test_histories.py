"""Whatever happens to a collection and to its nodes, every node answers what the writes say."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.store.store import Store
from tests.faults.soak import seeds
from tests.services.retrieval.history import STEPS, History, Step
from tests.services.retrieval.lives import hurry

NUMBERS = itertools.count(1)
HISTORIES = st.lists(
    st.tuples(st.sampled_from(STEPS), st.integers(0, 2**32 - 1)), min_size=30, max_size=45
)


@settings(
    max_examples=4 * len(seeds()),
    deadline=None,
    derandomize=len(seeds()) == 1,
    database=None,
    phases=[Phase.generate],  # to shorten a history that fails takes minutes
    suppress_health_check=list(HealthCheck),
)
@given(steps=HISTORIES)
async def test_every_node_answers_what_the_writes_say(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: list[Step]
) -> None:
    hurry(monkeypatch)
    number = next(NUMBERS)
    await History(store, tmp_path / str(number), f"history-{number}").run(steps)
