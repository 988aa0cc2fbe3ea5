"""Many callers with a text each beside one caller who sends as many at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from benchmarks.bench import Bench
from benchmarks.load import Job, put
from benchmarks.rates import Rates, rounds_in_turns
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.embed.material import Material
from benchmarks.suites.embed.sides import Sides

CALLERS = 32
ABSTRACTS, CLAIMS, ROUNDS = 512, 960, 3


def run(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """The same texts both ways, of abstracts (the model is the work) and of claims (the calls
    are)."""
    rounds = 1 if bench.quick else ROUNDS
    address = sides.node().address
    comparisons, ratios = [], []
    for what, texts, count in (
        ("abstracts", material.abstracts, 32 if bench.quick else ABSTRACTS),
        ("claims", material.claims, 64 if bench.quick else CLAIMS),
    ):
        bench.say(f"{count} {what} by {CALLERS} callers and by one, {rounds} rounds")
        rates = rounds_in_turns(
            {
                "many": partial(_rate, address, texts, count, 1, CALLERS),
                "one": partial(_rate, address, texts, count, CALLERS, 1),
            },
            rounds,
        )
        ratios.append(rates["many"].over(rates["one"]))
        comparisons.append(_compared(what, rates["many"], rates["one"]))
    return SuiteReport(
        suite="callers",
        setting={"callers": f"{CALLERS} with one text each, or one with {CALLERS}; closed loops"},
        comparisons=comparisons,
        targets=[
            Target("embed_many_callers_over_one", ratios[0].median),
        ],
    )


def _rate(
    address: str, texts: Sequence[str], count: int, batch: int, callers: int, number: int
) -> float:
    """Texts a second in round `number`."""
    chosen = [texts[i % len(texts)] for i in range(number * count, (number + 1) * count)]
    requests = [chosen[start : start + batch] for start in range(0, count, batch)]
    outcome = put(address, [Job("texts", requests, callers=callers)])["texts"]
    if outcome.failures:
        raise RuntimeError(f"requests failed: {outcome.failures}")
    return outcome.texts_per_s


def _compared(what: str, many: Rates, one: Rates) -> Comparison:
    return Comparison(
        f"{what} by {CALLERS} callers",
        Figure(many.spread, many.median, "texts/s"),
        Figure(f"one caller, {one.spread}", one.median, "texts/s"),
    )
