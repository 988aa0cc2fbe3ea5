"""What a price file may say, and what tokens cost by it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidField
from engine.spending.prices import NO_PRICES, Price, dearest, read_prices

FILE = """
version = "2026-11"
currency = "USD"

[models.writer]
input_per_million = 0.15
cached_input_per_million = 0.075
output_per_million = 0.6

[models."vendor/large model:v1"]
input_per_million = 3
output_per_million = 15
"""
TOKENS = st.integers(0, 2**31 - 1)
PRICES = st.builds(Price, *[st.integers(0, 10**12)] * 3)


def test_tokens_cost_what_the_file_says_to_the_billionth() -> None:
    table = read_prices(FILE, "toml")
    price = table.price("writer", "unknown")
    assert price is not None
    assert (table.version, table.currency) == ("2026-11", "USD")
    assert price.cost_nanos(1, 0) == 150
    assert price.cost_nanos(1_000_000, 1_000_000) == 750_000_000
    assert price.cost_nanos(10, 0, cached_input_tokens=4) == 6 * 150 + 4 * 75


def test_a_model_is_found_by_its_own_id_or_by_its_endpoints_name() -> None:
    table = read_prices(FILE, "toml")
    large = table.price("any", "vendor/large model:v1")
    assert large is not None
    assert large.cached_input_nanos == large.input_nanos
    assert table.price("any", "small") is None
    assert NO_PRICES.price("writer", "writer") is None


def test_json_says_the_same() -> None:
    said = {
        "version": "2026-11",
        "currency": "USD",
        "models": {"writer": {"input_per_million": 0.15, "output_per_million": 0.6}},
    }
    assert read_prices(json.dumps(said), "json").price("writer", "") == Price(
        150_000_000, 150_000_000, 600_000_000
    )


def changed(old: str, new: str) -> str:
    assert old in FILE
    return FILE.replace(old, new)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "version"),
        ("version = ", "no TOML"),
        ("[" * 100_000, "no TOML"),
        (changed('version = "2026-11"', ""), "version"),
        (changed('"2026-11"', "7"), "version"),
        (changed('"2026-11"', f'"{"x" * 65}"'), "version"),
        (changed('"USD"', '"dollars"'), "currency"),
        (changed("0.15", "-0.15"), "models.writer.input_per_million"),
        (changed("0.15", "nan"), "models.writer.input_per_million"),
        (changed("0.15", "inf"), "models.writer.input_per_million"),
        (changed("0.15", "true"), "models.writer.input_per_million"),
        (changed("0.15", '"0.15"'), "models.writer.input_per_million"),
        (changed("0.15", "1000000.1"), "models.writer.input_per_million"),
        (changed("output_per_million = 0.6", ""), "models.writer.output_per_million"),
        (changed("output_per_million = 0.6", "out = 0.6"), "models.writer.out"),
        (changed("[models.writer]", "[prices.writer]"), "prices"),
        ('version = "1"\ncurrency = "USD"\n[models]', "models"),
        ('version = "1"\ncurrency = "USD"\nmodels.a = 3', "models.a"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(text: str, says: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read_prices(text, "toml")
    assert says in caught.value.message
    assert "generation.prices" in caught.value.message
    assert len(caught.value.message) < 600


@given(PRICES, TOKENS, TOKENS, st.data())
def test_a_cost_is_the_exact_one_rounded_up(
    price: Price, read: int, written: int, data: st.DataObject
) -> None:
    cached = data.draw(st.integers(0, read))
    exact = (
        (read - cached) * price.input_nanos
        + cached * price.cached_input_nanos
        + written * price.output_nanos
    )
    assert price.cost_nanos(read, written, cached) == math.ceil(exact / 10**6) or (
        (price.cost_nanos(read, written, cached) - 1) * 10**6 < exact
        and price.cost_nanos(read, written, cached) * 10**6 >= exact
    )


@given(st.lists(PRICES, min_size=1, max_size=5), TOKENS, TOKENS)
def test_the_dearest_is_never_cheaper_than_one_of_them(
    prices: list[Price], read: int, written: int
) -> None:
    most = dearest(prices).cost_nanos(read, written)
    assert all(price.cost_nanos(read, written) <= most for price in prices)
