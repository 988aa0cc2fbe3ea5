"""`python -m benchmarks.gpu`: the default model in float16 on an NVIDIA GPU.

Tokens a second by the budget of a batch, the latency of one query, and the cosine of its vectors
with those of float32 on the CPU. Runs where onnxruntime offers CUDA, which the dependency group
`cuda` installs; elsewhere it says what is missing and ends with 2. The texts are the demo's, so
that nothing is needed from outside.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import machine
from benchmarks.data import demo_questions, demo_texts
from benchmarks.rates import Rates
from benchmarks.report import Comparison, Figure, Report, SuiteReport
from benchmarks.targets import read_targets
from benchmarks.timing import in_turns
from engine.errors import ProviderMissing
from engine.models import default, providers
from engine.models.encoder import Encoder
from engine.models.precision import Asked
from engine.schedule import Limits

BUDGETS = (1_536, 4_096, 16_384, 65_536, 262_144)
"""Padded tokens of a batch."""
REPEATS, ROUNDS = 8, 3
"""How often the texts are embedded in a round, so that one takes a while."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables; 2 where there is no GPU to measure."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the figures go as JSON")
    given = parser.parse_args(arguments)
    threads = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as folder:
        try:
            providers.choose("cuda", providers.offered())
            gpu = _load(Path(folder), threads, "cuda", "fp16")
        except ProviderMissing as error:
            print(f"no GPU to measure: {error}", file=sys.stderr)
            return 2
        texts = [f"{one.title} {one.text}" for one in demo_texts()]
        questions = [one["question"] for one in demo_questions()]
        suite = measure(gpu, _load(Path(folder), threads, "cpu", "fp32"), texts, questions)
    started_at = datetime.now(UTC).isoformat(timespec="seconds")
    report = Report(machine.describe(), quick=False, started_at=started_at, suites=(suite,))
    if given.json is not None:
        given.json.write_text(json.dumps(report.to_json(read_targets()), indent=2) + "\n")
    print(report.to_markdown())
    return 0


def measure(
    ours: Encoder,
    cpu: Encoder,
    texts: list[str],
    questions: list[str],
    *,
    budgets: Sequence[int] = BUDGETS,
    repeats: int = REPEATS,
    rounds: int = ROUNDS,
) -> SuiteReport:
    """`ours` alone by budget, and beside `cpu` on queries and vectors."""
    counts = ours.count_tokens(texts)
    tokens = sum(min(count, ours.tokens_max) for count in counts)
    times = in_turns(
        {
            "ours": lambda i: ours.embed([questions[i % len(questions)]], "query"),
            "cpu": lambda i: cpu.embed([questions[i % len(questions)]], "query"),
        },
        rounds=rounds,
        calls=len(questions),
        warm_up=len(questions),
    )
    sample = texts[:64]
    vectors = ours.embed(sample, "passage", truncate=True).vectors
    cosines = (vectors * cpu.embed(sample, "passage", truncate=True).vectors).sum(1)
    return SuiteReport(
        suite="gpu",
        setting={
            "texts": f"{len(texts)} abstracts, {tokens / len(texts):.0f} tokens each",
            "provider": ours.provider,
            "precision": ours.fingerprint.precision,
        },
        comparisons=[
            Comparison(
                f"one query in process, {name}",
                Figure(ours.provider, times["ours"].percentile_ms(percent), "ms"),
                Figure(f"{cpu.provider}, {cpu.fingerprint.precision}", value, "ms"),
            )
            for name, percent, value in (
                ("p50", 50, times["cpu"].p50_ms()),
                ("p99", 99, times["cpu"].p99_ms()),
            )
        ],
        figures=[
            *(_throughput(ours, texts * repeats, tokens * repeats, b, rounds) for b in budgets),
            Figure("cosine with the CPU", float(cosines.mean()), "", f"least {cosines.min():.5f}"),
        ],
    )


def _load(cache: Path, threads: int, provider: str, precision: Asked) -> Encoder:
    return Encoder.load(
        default.directory(), cache, threads=threads, provider=provider, precision=precision
    )


def _throughput(
    encoder: Encoder, texts: list[str], tokens: int, budget: int, rounds: int
) -> Figure:
    limits = Limits(batch_padded_tokens_max=budget, batch_items_max=len(texts))
    encoder.embed(texts[: len(texts) // 2], "passage", truncate=True, limits=limits)
    rates = []
    for _ in range(rounds):
        begin_s = time.perf_counter()
        encoder.embed(texts, "passage", truncate=True, limits=limits)
        rates.append(tokens / (time.perf_counter() - begin_s))
    found = Rates(tuple(rates))
    return Figure(f"batches of {budget:,} padded tokens", found.median, "tokens/s", found.spread)


if __name__ == "__main__":
    sys.exit(main())
