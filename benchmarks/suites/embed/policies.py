"""One trace through the live queue with each of its policies: what they pad, and who waits.

`fifo` is what text-embeddings-inference does: one queue in the order of arrival, batches filled
from its head. `lanes` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.bench import Bench
from benchmarks.load import Job, Outcome, percentile_ms, poisson, put
from benchmarks.node import EmbeddingNode
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.embed.material import Material
from benchmarks.suites.embed.sides import Sides

POLICIES = ("lanes", "fifo")
QUERIES_PER_S = 10.0
BATCH = 16
TRACE_S, ROUNDS = 20.0, 2
OFFERED = 1.1
"""Bulk work that comes, to what the node can do: the queue fills, then drains."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One policy over all rounds: milliseconds of the requests by lane, and tokens by kind."""

    latencies_ms: Mapping[str, Sequence[float]]
    tokens: Mapping[str, float]
    failures: Mapping[str, int]

    def p99_ms(self, lane: str) -> float:
        """From the intended send to the answer."""
        return percentile_ms(self.latencies_ms[lane], 99)

    @property
    def padding(self) -> float:
        """The share of all tokens that are padding."""
        return self.tokens["padding"] / sum(self.tokens.values())


def run(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """Padding and the 99th percentile of each lane, ours beside FIFO."""
    seconds, rounds = (1.5, 1) if bench.quick else (TRACE_S, ROUNDS)
    nodes = {policy: sides.node(policy) for policy in POLICIES}
    probe = [material.mixed[i * BATCH : (i + 1) * BATCH] for i in range(4 if bench.quick else 24)]
    able = put(nodes["lanes"].address, [Job("probe", probe, lane="bulk", callers=8)])["probe"]
    per_s = OFFERED * able.texts_per_s / BATCH
    bench.say(f"one trace of {seconds:g} s with each policy, {rounds} rounds")
    found: dict[str, list[tuple[dict[str, Outcome], dict[str, float]]]] = {p: [] for p in POLICIES}
    for number in range(rounds):
        trace = _trace(material, per_s, seconds, number)
        for policy in POLICIES if number % 2 == 0 else POLICIES[::-1]:
            found[policy].append(_replay(nodes[policy], trace))
    ours, fifo = (_together(found[policy]) for policy in POLICIES)
    return SuiteReport(
        suite="policies",
        setting={
            "trace": f"{rounds} of {seconds:g} s: {QUERIES_PER_S:g} claims/s, and {per_s:.2g} "
            f"bulk requests/s of {BATCH} abstracts, titles and sentences, {OFFERED:g} times what "
            "the node can do; Poisson, timed from the intended send",
        },
        comparisons=[
            Comparison(
                "padding",
                Figure("lanes", ours.padding * 100, "%"),
                Figure("fifo", fifo.padding * 100, "%"),
            ),
            *(
                Comparison(
                    f"{lane} lane, p99",
                    Figure(
                        f"lanes, {len(ours.latencies_ms[lane])} requests", ours.p99_ms(lane), "ms"
                    ),
                    Figure(f"fifo, {_failed(fifo)}", fifo.p99_ms(lane), "ms"),
                )
                for lane in ("interactive", "bulk")
            ),
        ],
        figures=[Figure("requests refused", sum(ours.failures.values()), "", "lanes")],
        targets=[Target("embed_padding_share", ours.padding)],
    )


def _trace(material: Material, per_s: float, seconds: float, number: int) -> list[Job]:
    """Round `number`'s; the same for every policy."""
    bulk_s = poisson(per_s, seconds, seed=2 * number)
    queries_s = poisson(QUERIES_PER_S, seconds, seed=2 * number + 1)
    mixed, claims = material.mixed, material.claims
    return [
        Job(
            "bulk",
            [
                [mixed[i % len(mixed)] for i in range(n * BATCH, (n + 1) * BATCH)]
                for n in range(len(bulk_s))
            ],
            lane="bulk",
            arrivals_s=bulk_s,
        ),
        Job(
            "interactive",
            [[claims[n % len(claims)]] for n in range(len(queries_s))],
            arrivals_s=queries_s,
        ),
    ]


def _replay(
    node: EmbeddingNode, trace: Sequence[Job]
) -> tuple[dict[str, Outcome], dict[str, float]]:
    before = node.model_tokens()
    outcomes = put(node.address, trace)
    after = node.model_tokens()
    return outcomes, {kind: after[kind] - before[kind] for kind in after}


def _together(rounds: Sequence[tuple[dict[str, Outcome], dict[str, float]]]) -> Replayed:
    latencies_ms = {
        lane: [ms for outcomes, _ in rounds for ms in outcomes[lane].latencies_ms]
        for lane in ("interactive", "bulk")
    }
    failures: dict[str, int] = {}
    for outcomes, _ in rounds:
        for outcome in outcomes.values():
            for code, count in outcome.failures.items():
                failures[code] = failures.get(code, 0) + count
    tokens = {kind: sum(counted[kind] for _, counted in rounds) for kind in ("text", "padding")}
    return Replayed(latencies_ms, tokens, failures)


def _failed(replayed: Replayed) -> str:
    return f"{sum(replayed.failures.values())} refused"
