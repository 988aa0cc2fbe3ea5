"""Scores moved by what payloads say: boosts for points that satisfy a filter, and decay with the
distance of a number or a time from where it counts most.

    score = base * product of factors * product of decays + sum of addends

A factor above 1 always raises and one below 1 always lowers: a base below 0, such as a negative
distance, is divided by the product instead of multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from engine.errors import InvalidField, InvalidFilter
from engine.index.conditions import Analyze, Filter, matches, plain_words
from engine.index.filters import canonical, validate
from engine.index.grouping import values_at
from engine.index.instants import MICROSECONDS, instant_of
from engine.types import Payload, Scalar

BOOSTS_MAX = 16
DECAYS_MAX = 8
FACTOR_MIN, FACTOR_MAX = 1e-6, 1e6
"""Bounds of each factor and of the product of all, so that no score becomes 0 or infinite."""


class DecayKind(StrEnum):
    """How the value falls with the distance from the origin."""

    EXPONENTIAL = "exponential"
    GAUSSIAN = "gaussian"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True)
class Boost:
    """What a point that satisfies `filter` gains: times `factor`, 1e-6 to 1e6, plus `addend`,
    -1e6 to 1e6."""

    filter: Filter
    factor: float = 1.0
    addend: float = 0.0


@dataclass(frozen=True, slots=True)
class Decay:
    """1 where a payload's field equals `origin`, `midpoint` at the distance `scale` from it.

    `over_time` reads the field as an RFC 3339 time: `origin`, in seconds since 1970, may be None
    for now, and `scale` is in seconds. Else the field is a number, and `origin` is needed. Of an
    array the value that decays least counts. A point without a value counts as `missing`, or as
    `midpoint` if that is None: neither new nor old.
    """

    field: str
    kind: DecayKind
    scale: float
    origin: float | None = None
    over_time: bool = False
    midpoint: float = 0.5
    missing: float | None = None


@dataclass(frozen=True, slots=True)
class Formula:
    """At most `BOOSTS_MAX` boosts and `DECAYS_MAX` decays; all of them apply."""

    boosts: tuple[Boost, ...] = ()
    decays: tuple[Decay, ...] = ()


@dataclass(frozen=True, slots=True)
class Effect:
    """What a formula does to the score of one point."""

    factor: float
    addend: float

    def on(self, base: float) -> float:
        """The score that comes of `base`."""
        moved = base * self.factor if base >= 0 else base / self.factor
        return moved + self.addend


def check(formula: Formula) -> None:
    """Raises InvalidField or InvalidFilter for a formula out of bounds; fields are named as the
    lists `boosts` and `decays` of a search."""
    for name, count, most in (
        ("boosts", len(formula.boosts), BOOSTS_MAX),
        ("decays", len(formula.decays), DECAYS_MAX),
    ):
        if count > most:
            raise InvalidField(
                f"{name} has {count} items; give at most {most}",
                field=name,
                metadata={"items": count, "items_max": most},
            )
    for index, boost in enumerate(formula.boosts):
        try:
            validate(boost.filter)
        except InvalidFilter as error:
            where = f"boosts[{index}].filter"
            raise InvalidFilter(error.message, field=where, metadata=error.metadata) from None
        _bounded(f"boosts[{index}].factor", boost.factor, FACTOR_MIN, FACTOR_MAX)
        _bounded(f"boosts[{index}].addend", boost.addend, -1e6, 1e6)
    for index, decay in enumerate(formula.decays):
        _check_decay(f"decays[{index}]", decay)


def canonical_formula(formula: Formula, analyze: Analyze) -> Formula:
    """With boosts' filters in their canonical form, as `effect` reads them faster. Raises
    InvalidFilter for a filter that looks for a text without words."""
    boosts = []
    for index, boost in enumerate(formula.boosts):
        try:
            boosts.append(replace(boost, filter=canonical(boost.filter, analyze)))
        except InvalidFilter as error:
            where = f"boosts[{index}].filter"
            raise InvalidFilter(error.message, field=where, metadata=error.metadata) from None
    return replace(formula, boosts=tuple(boosts))


def effect(
    formula: Formula, payload: Payload, now_s: float, analyze: Analyze = plain_words
) -> Effect:
    """What a checked formula does to the point with this payload; `now_s` counts from 1970, and
    `analyze` is the collection's, for boosts that look for words."""
    factor, addend = 1.0, 0.0
    for boost in formula.boosts:
        if matches(boost.filter, payload, analyze):
            factor *= boost.factor
            addend += boost.addend
    for decay in formula.decays:
        factor *= _decayed(decay, payload, now_s)
    return Effect(min(FACTOR_MAX, max(FACTOR_MIN, factor)), addend)


def _decayed(decay: Decay, payload: Payload, now_s: float) -> float:
    origin = now_s if decay.origin is None else decay.origin
    distances = [abs(value - origin) for value in _numbers(decay, payload)]
    if not distances:
        return decay.midpoint if decay.missing is None else decay.missing
    steps = min(min(distances) / decay.scale, 1e6)  # far enough to be 0, and no overflow
    if decay.kind is DecayKind.EXPONENTIAL:
        return float(decay.midpoint**steps)
    if decay.kind is DecayKind.GAUSSIAN:
        return float(decay.midpoint ** (steps * steps))
    return max(0.0, 1.0 - (1.0 - decay.midpoint) * steps)


def _numbers(decay: Decay, payload: Payload) -> Iterator[float]:
    for value in values_at(payload, decay.field):
        number = _second(value) if decay.over_time else _number(value)
        if number is not None:
            yield number


def _number(value: Scalar) -> float | None:
    if isinstance(value, bool | str):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _second(value: Scalar) -> float | None:
    micros = instant_of(value) if isinstance(value, str) else None
    return None if micros is None else micros / MICROSECONDS


def _check_decay(name: str, decay: Decay) -> None:
    if not 1 <= len(decay.field) <= 256:
        raise InvalidField(
            f"{name}.field has {len(decay.field)} characters; give 1 to 256",
            field=f"{name}.field",
            metadata={"characters": len(decay.field), "characters_max": 256},
        )
    _bounded(f"{name}.scale", decay.scale, 1e-9, 1e15)
    _bounded(f"{name}.midpoint", decay.midpoint, 1e-6, 1 - 1e-6)
    if decay.missing is not None:
        _bounded(f"{name}.missing", decay.missing, 0.0, 1.0)
    if decay.origin is not None:
        _bounded(f"{name}.origin", decay.origin, -1e15, 1e15)
    elif not decay.over_time:
        raise InvalidField(
            f"{name}.origin is missing; only a decay over time has one by itself, now",
            field=f"{name}.origin",
        )


def _bounded(name: str, value: float, least: float, most: float) -> None:
    if not least <= value <= most:  # also where it is not a number
        raise InvalidField(
            f"{name} is {value}; give {least:g} to {most:g}",
            field=name,
            metadata={"value": value, "least": least, "most": most},
        )
