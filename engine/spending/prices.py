"""The price file: what a million tokens of a model cost, under a version.

    version = "2026-11"
    currency = "USD"

    [models.writer]
    input_per_million = 0.15
    cached_input_per_million = 0.075
    output_per_million = 0.6

Money is counted in billionths of the currency (nanos), in whole numbers: one token at 0.15 a
million costs 150 of them, and sums stay exact.
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from engine.errors import InvalidField

Form: TypeAlias = Literal["toml", "json"]

FIELD = "generation.prices"
MODELS_MAX = 10_000
VERSION_CHARACTERS_MAX = 64
PRICE_MAX = 1_000_000.0
"""Of a million tokens, in the currency."""
NANOS = 1_000_000_000
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Nanos of a million tokens."""

    input_nanos: int
    cached_input_nanos: int
    output_nanos: int

    def cost_nanos(
        self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
    ) -> int:
        """What so many tokens cost, rounded up. `cached_input_tokens` are some of the input's."""
        fresh = max(input_tokens - cached_input_tokens, 0)
        whole = (
            fresh * self.input_nanos
            + cached_input_tokens * self.cached_input_nanos
            + output_tokens * self.output_nanos
        )
        return -(-whole // MILLION)


@dataclass(frozen=True, slots=True)
class PriceTable:
    """A price file that was read. `prices` are by the id of a generation model, or by its
    endpoint's name for it."""

    version: str
    currency: str
    prices: Mapping[str, Price]

    def price(self, model_id: str, upstream_model: str) -> Price | None:
        """The price of a model; its own id goes before the endpoint's name. None without one."""
        return self.prices.get(model_id) or self.prices.get(upstream_model)


NO_PRICES = PriceTable("", "", MappingProxyType({}))


def dearest(prices: list[Price]) -> Price:
    """What is at least as dear as each of them, whatever the tokens."""
    return Price(
        max(p.input_nanos for p in prices),
        max(p.cached_input_nanos for p in prices),
        max(p.output_nanos for p in prices),
    )


def read_prices(text: str, form: Form) -> PriceTable:
    """Reads a price file. Raises InvalidField, which says what is wrong and where."""
    try:
        read = tomllib.loads(text) if form == "toml" else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(f"is no {form.upper()}: {str(error)[:200]}") from error
    if not isinstance(read, dict):
        raise _broken("is no table of version, currency and models")
    unknown = read.keys() - {"version", "currency", "models"}
    if unknown:
        raise _broken(f"has {min(unknown)[:80]!r}; it takes version, currency and models")
    version, currency, models = (read.get(k) for k in ("version", "currency", "models"))
    if not isinstance(version, str) or not 1 <= len(version) <= VERSION_CHARACTERS_MAX:
        raise _broken(f"needs a version, a text of 1 to {VERSION_CHARACTERS_MAX} characters")
    if not isinstance(currency, str) or not (len(currency) == 3 and currency.isupper()):
        raise _broken("needs a currency, a code of three letters such as USD")
    if not isinstance(models, dict) or not 1 <= len(models) <= MODELS_MAX:
        raise _broken(f"needs 1 to {MODELS_MAX:,} models, a table for each")
    prices = {name: _price(name, value) for name, value in models.items()}
    return PriceTable(version, currency, MappingProxyType(prices))


def _price(name: str, value: object) -> Price:
    at = f"models.{name[:80]}"
    if not isinstance(value, dict):
        raise _broken(f"has no table at {at}")
    known = ("input_per_million", "cached_input_per_million", "output_per_million")
    unknown = value.keys() - set(known)
    if unknown:
        raise _broken(f"has {at}.{min(unknown)[:80]}; a model takes {', '.join(known)}")
    given = {key: _nanos(value[key], f"{at}.{key}") for key in known if key in value}
    for key in (known[0], known[2]):
        if key not in given:
            raise _broken(f"lacks {at}.{key}")
    return Price(given[known[0]], given.get(known[1], given[known[0]]), given[known[2]])


def _nanos(value: object, at: str) -> int:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= PRICE_MAX:  # type: ignore[arg-type,operator]
        raise _broken(f"has {str(value)[:40]} at {at}, which is no number from 0 to 1,000,000")
    return round(float(value) * NANOS)  # type: ignore[arg-type]


def _broken(what: str) -> InvalidField:
    return InvalidField(
        f"The price file {what}. Correct it; {FIELD} says where it is.",
        field=FIELD,
        metadata={"field": FIELD},
    )
