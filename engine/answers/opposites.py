"""Words that say the opposite of each other, as stems: a sentence that has one where its source
has the other says something else."""

from __future__ import annotations

from collections.abc import Mapping

from engine.answers.words import stem

_PAIRS = (
    "increase decrease, increased decreased, increases reduces, increased reduced, "
    "higher lower, more less, more fewer, most least, before after, above below, over under, "
    "always never, all none, win lose, won lost, north south, northern southern, east west, "
    "eastern western, earlier later, early late, first last, largest smallest, larger smaller, "
    "longer shorter, longest shortest, better worse, best worst, "
    "positive negative, upper lower, inside outside, internal external, left right, "
    "accept reject, accepted rejected, allow forbid, allowed forbidden, success failure, "
    "succeeded failed, enable disable, activate inhibit, activates inhibits, promotes inhibits, "
    "promote inhibit, promotes suppresses, minimum maximum, legal illegal, possible impossible, "
    "present absent, presence absence, high low, old young, older younger, male female, "
    "begin end, began ended, opened closed, gain loss, up down, ascending descending, "
    "majority minority, public private, same different, true false, "
    "with without, likely unlikely, able unable, common rare, strong weak, stronger weaker, "
    "import export, buy sell, bought sold, borrow lend, parent child, north-east south-west"
)


def _read() -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for pair in _PAIRS.split(","):
        one, other = (stem(word) for word in pair.split())
        found.setdefault(one, set()).add(other)
        found.setdefault(other, set()).add(one)
    return {word: frozenset(others) for word, others in found.items()}


OPPOSITES: Mapping[str, frozenset[str]] = _read()
