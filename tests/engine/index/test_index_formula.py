"""Boosts and decays move scores as their formulas say, and never to what is no number."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidArgument
from engine.index.conditions import And, Equals
from engine.index.formula import (
    BOOSTS_MAX,
    DECAYS_MAX,
    Boost,
    Decay,
    DecayKind,
    Effect,
    Formula,
    check,
    effect,
)
from engine.types import Payload

NOW = datetime(2024, 5, 1, 12, tzinfo=UTC)
NOW_S = NOW.timestamp()
NAN, INF = math.nan, math.inf


@given(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0.01, 0.99))
def test_a_decay_is_its_curve(value: float, origin: float, scale: float, midpoint: float) -> None:
    steps = abs(value - origin) / scale
    expected = {
        DecayKind.EXPONENTIAL: math.exp(math.log(midpoint) * steps),
        DecayKind.GAUSSIAN: math.exp(math.log(midpoint) * steps**2),
        DecayKind.LINEAR: max(0.0, 1 - (1 - midpoint) * steps),
    }
    for kind, share in expected.items():
        decay = Decay("n", kind, scale, origin, midpoint=midpoint)
        factor = effect(Formula(decays=(decay,)), {"n": value}, 0).factor
        assert factor == pytest.approx(max(1e-6, share), rel=1e-6, abs=1e-6)


@given(st.integers(-10_000, 10_000), st.integers(-12, 12))
def test_recency_counts_hours_in_any_offset(hours: int, offset: int) -> None:
    at = (NOW - timedelta(hours=hours)).replace(microsecond=0)
    local = at + timedelta(hours=offset)
    text = f"{local:%Y-%m-%dT%H:%M:%S}{'-' if offset < 0 else '+'}{abs(offset):02}:00"
    decay = Decay("at", DecayKind.EXPONENTIAL, 86_400.0, over_time=True)
    factor = effect(Formula(decays=(decay,)), {"at": text}, NOW_S).factor
    assert factor == pytest.approx(max(1e-6, 0.5 ** (abs(hours) / 24)), rel=1e-6)
    given_origin = Decay("at", DecayKind.EXPONENTIAL, 86_400.0, NOW_S, over_time=True)
    assert effect(Formula(decays=(given_origin,)), {"at": text}, 0).factor == factor


@pytest.mark.parametrize(
    "payload", [{}, {"n": None}, {"n": "x"}, {"n": True}, {"n": {}}, {"n": []}]
)
def test_a_point_without_a_value_is_neither_new_nor_old(payload: Payload) -> None:
    def factor(missing: float | None) -> float:
        decay = Decay("n", DecayKind.LINEAR, 1.0, 0.0, midpoint=0.25, missing=missing)
        return effect(Formula(decays=(decay,)), payload, 0).factor

    assert (factor(None), factor(1.0), factor(0.0)) == (0.25, 1.0, 1e-6)


def test_the_nearest_of_several_values_counts() -> None:
    decay = Decay("n", DecayKind.LINEAR, 10.0, 0.0)
    assert effect(Formula(decays=(decay,)), {"n": [100, [-2], 50]}, 0).factor == pytest.approx(0.9)


@given(
    st.floats(-1e3, 1e3),
    st.lists(st.tuples(st.floats(1e-2, 1e2), st.floats(-10, 10), st.booleans()), max_size=4),
)
def test_boosts_that_match_multiply_and_then_add(
    base: float, boosts: list[tuple[float, float, bool]]
) -> None:
    formula = Formula(
        tuple(Boost(Equals("hit", hit), factor, addend) for factor, addend, hit in boosts)
    )
    product = math.prod(factor for factor, _, hit in boosts if hit)
    product = min(1e6, max(1e-6, product))
    addends = sum(addend for _, addend, hit in boosts if hit)
    moved = base * product if base >= 0 else base / product
    found = effect(formula, {"hit": True}, 0).on(base)
    assert found == pytest.approx(moved + addends, rel=1e-9, abs=1e-9)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_order_is_kept_and_larger_factors_never_lower(
    one: float, two: float, factor: float, other: float
) -> None:
    low, high = sorted((one, two))
    assert Effect(factor, 1.0).on(low) <= Effect(factor, 1.0).on(high)
    less, more = sorted((factor, other))
    assert Effect(less, 0.0).on(one) <= Effect(more, 0.0).on(one)


@given(st.floats(allow_nan=False), st.sampled_from(DecayKind))
def test_every_number_decays_to_a_number(value: float, kind: DecayKind) -> None:
    for payload in ({"n": value}, {"n": 10**400}):
        factor = effect(Formula(decays=(Decay("n", kind, 1e-9, 1e15),)), payload, 0).factor
        assert 1e-6 <= factor <= 1


def _decay(**fields: object) -> Formula:
    given: dict[str, object] = {"kind": DecayKind.LINEAR, "scale": 1.0, "origin": 0.0, **fields}
    return Formula(decays=(Decay(**{"field": "n", **given}),))  # type: ignore[arg-type]


def _boost(**fields: object) -> Formula:
    return Formula((Boost(**{"filter": Equals("a", 1), **fields}),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("formula", "where"),
    [
        (Formula((Boost(Equals("a", 1)),) * (BOOSTS_MAX + 1)), "boosts"),
        (Formula(decays=_decay().decays * (DECAYS_MAX + 1)), "decays"),
        (_boost(filter=And(())), "boosts[0].filter"),
        (_boost(factor=0.0), "boosts[0].factor"),
        (_boost(factor=-1.0), "boosts[0].factor"),
        (_boost(factor=NAN), "boosts[0].factor"),
        (_boost(factor=INF), "boosts[0].factor"),
        (_boost(addend=NAN), "boosts[0].addend"),
        (_boost(addend=1e7), "boosts[0].addend"),
        (_decay(field=""), "decays[0].field"),
        (_decay(scale=0.0), "decays[0].scale"),
        (_decay(scale=NAN), "decays[0].scale"),
        (_decay(midpoint=0.0), "decays[0].midpoint"),
        (_decay(midpoint=1.0), "decays[0].midpoint"),
        (_decay(missing=1.1), "decays[0].missing"),
        (_decay(origin=INF), "decays[0].origin"),
        (_decay(origin=None), "decays[0].origin"),
    ],
)
def test_what_is_out_of_bounds_is_refused_by_its_name(formula: Formula, where: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check(formula)
    assert refused.value.field == where
