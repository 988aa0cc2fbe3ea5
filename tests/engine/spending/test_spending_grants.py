"""What budgets grant: never more than any of them has, and no less than they could."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import BudgetExceeded, PriceMissing
from engine.spending.estimate import input_bounds, least_tokens, likely_tokens
from engine.spending.grants import OUTPUT_TOKENS_LEAST, Room, Wanted, grant
from engine.spending.prices import Price

PRICE = Price(1_000_000_000, 1_000_000_000, 2_000_000_000)  # 1,000 and 2,000 nanos a token


def room(nanos: int = 0, tokens: int = 0, **used: int) -> Room:
    given_ = {name: used.get(name, 0) for name in Room.__slots__[3:]}
    return Room("budgets/b", nanos, tokens, **given_)


def wanted(read: int = 100, written: int = 50, price: Price | None = PRICE) -> Wanted:
    return Wanted("generationModels/m", read, written, price)


def test_what_fits_is_granted_whole() -> None:
    got = grant([room(nanos=200_000), room(tokens=150)], wanted())
    assert (got.output_tokens, got.nanos, got.tokens) == (50, 200_000, 150)


def test_an_answer_is_granted_what_is_left_after_its_prompt() -> None:
    assert grant([room(nanos=160_000)], wanted()).output_tokens == 30
    assert grant([room(tokens=140)], wanted()).output_tokens == 40
    both = [room(nanos=160_000), room(tokens=140)]
    assert grant(both, wanted()).output_tokens == 30
    assert grant(both[::-1], wanted()).output_tokens == 30


def test_what_is_spent_or_held_for_others_is_not_granted_again() -> None:
    got = grant([room(tokens=200, spent_tokens=30, reserved_tokens=40)], wanted())
    assert got.output_tokens == 30


@pytest.mark.parametrize(
    "rooms",
    [
        [room(nanos=99_999)],
        [room(tokens=100)],
        [room(tokens=100 + OUTPUT_TOKENS_LEAST - 1)],
        [room(nanos=10**9), room(tokens=1)],
        [room(tokens=10, spent_tokens=500)],
    ],
)
def test_without_room_for_the_prompt_and_a_beginning_nothing_is_granted(rooms: list[Room]) -> None:
    with pytest.raises(BudgetExceeded) as caught:
        grant(rooms, wanted())
    assert caught.value.metadata["budget"] == "budgets/b"


def test_a_short_answer_needs_no_more_than_it_asks_for() -> None:
    assert grant([room(tokens=103)], wanted(written=3)).output_tokens == 3


def test_money_cannot_be_held_for_a_model_without_a_price() -> None:
    with pytest.raises(PriceMissing, match="price file"):
        grant([room(nanos=10**12)], wanted(price=None))
    assert grant([room(tokens=10**6)], wanted(price=None)).nanos == 0


def test_a_model_that_costs_nothing_is_bounded_by_tokens_alone() -> None:
    assert grant([room(nanos=1)], wanted(price=Price(0, 0, 0))).nanos == 0


NUMBERS = st.integers(0, 10**12)
ROOMS = st.builds(Room, st.just("budgets/b"), *[NUMBERS] * 6)


@given(
    st.lists(ROOMS, min_size=1, max_size=3),
    st.integers(0, 10**6),
    st.integers(1, 10**5),
    st.builds(Price, *[st.integers(0, 10**12)] * 3),
)
def test_no_budget_is_ever_overdrawn_and_none_grants_less_than_it_could(
    rooms: list[Room], read: int, written: int, price: Price
) -> None:
    def fits(output: int) -> bool:
        nanos, tokens = price.cost_nanos(read, output), read + output
        return all(
            (not r.limit_nanos or nanos <= r.left_nanos)
            and (not r.limit_tokens or tokens <= r.left_tokens)
            for r in rooms
        )

    try:
        got = grant(rooms, Wanted("m", read, written, price))
    except BudgetExceeded:
        assert not fits(min(written, OUTPUT_TOKENS_LEAST))
        return
    assert fits(got.output_tokens)
    assert got.output_tokens == written or not fits(got.output_tokens + 1)
    assert (got.nanos, got.tokens) == (
        price.cost_nanos(read, got.output_tokens),
        read + got.output_tokens,
    )


@given(st.lists(st.text(max_size=200), max_size=10))
def test_no_text_has_more_tokens_than_bytes_or_fewer_than_the_bound(texts: list[str]) -> None:
    bounds = input_bounds(texts, tools=False)
    size = sum(len(text.encode(errors="replace")) for text in texts)
    assert bounds.low <= size <= bounds.high
    assert all(least_tokens(len(t.encode(errors="replace")), len(t)) >= 0 for t in texts)
    assert likely_tokens(size) * 4 >= size


def test_letters_sent_one_by_one_are_not_taken_for_tokens() -> None:
    assert least_tokens(400, 400) <= 133
    assert least_tokens(400, 100) == 100
