"""What budgets grant an answer: a decision on plain numbers, made while their rows are locked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.errors import BudgetExceeded, PriceMissing
from engine.spending.prices import MILLION, Price

OUTPUT_TOKENS_LEAST = 16
"""An answer is not begun that could have fewer, unless fewer were asked for."""


@dataclass(frozen=True, slots=True)
class Room:
    """What a budget has: limits (0 for none), what was spent, what is held for others."""

    name: str
    limit_nanos: int
    limit_tokens: int
    spent_nanos: int
    spent_tokens: int
    reserved_nanos: int
    reserved_tokens: int

    @property
    def left_nanos(self) -> int:
        """What may still be reserved; only with a limit."""
        return self.limit_nanos - self.spent_nanos - self.reserved_nanos

    @property
    def left_tokens(self) -> int:
        """What may still be reserved; only with a limit."""
        return self.limit_tokens - self.spent_tokens - self.reserved_tokens


@dataclass(frozen=True, slots=True)
class Wanted:
    """The most tokens that an answer would read and write, of a model with a price or without."""

    model: str
    input_tokens: int
    output_tokens: int
    price: Price | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What an answer may use, and what is reserved for it."""

    output_tokens: int
    nanos: int
    tokens: int


def grant(rooms: Sequence[Room], wanted: Wanted) -> Grant:
    """As many of the wanted tokens as every budget has room for: so an answer may be cut short
    where a budget ends, and no budget is ever overdrawn. Raises BudgetExceeded where one has no
    room for the prompt and the beginning of an answer, PriceMissing where a budget counts money
    and the model has no price."""
    output = wanted.output_tokens
    least = min(wanted.output_tokens, OUTPUT_TOKENS_LEAST)
    for room in rooms:
        affordable = output
        if room.limit_tokens:
            affordable = min(affordable, room.left_tokens - wanted.input_tokens)
        if room.limit_nanos:
            affordable = min(affordable, _affordable(room, wanted))
        if affordable < least:
            raise _exceeded(room, wanted, least)
        output = affordable
    nanos = wanted.price.cost_nanos(wanted.input_tokens, output) if wanted.price else 0
    return Grant(output, nanos, wanted.input_tokens + output)


def _affordable(room: Room, wanted: Wanted) -> int:
    """Tokens that what is left of the money can pay for after the prompt; negative for none."""
    if wanted.price is None:
        raise PriceMissing(
            f"{room.name} counts money, and {wanted.model} has no price. Add it to the price file "
            "(generation.prices), with 0 for a model that costs nothing.",
            metadata={"budget": room.name, "model": wanted.model},
        )
    left = room.left_nanos * MILLION - wanted.input_tokens * wanted.price.input_nanos
    if left < 0:
        return -1
    if wanted.price.output_nanos == 0:
        return wanted.output_tokens
    return left // wanted.price.output_nanos


def _exceeded(room: Room, wanted: Wanted, least: int) -> BudgetExceeded:
    left: dict[str, int] = {}
    if room.limit_nanos:
        left["left_nanos"] = max(room.left_nanos, 0)
    if room.limit_tokens:
        left["left_tokens"] = max(room.left_tokens, 0)
    shown = " and ".join(f"{count:,} {name.removeprefix('left_')}" for name, count in left.items())
    return BudgetExceeded(
        f"{room.name} has {shown} left, which is not enough for a prompt of at most "
        f"{wanted.input_tokens:,} tokens and an answer of {least:,}. Raise it with SetBudget, "
        "shorten the prompt, or wait for answers that are being written.",
        metadata={
            "budget": room.name,
            **left,
            "input_tokens": wanted.input_tokens,
            "output_tokens_least": least,
        },
    )
