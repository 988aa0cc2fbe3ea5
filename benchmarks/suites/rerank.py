"""RerankPassages composed over fused search: what it gains on SciFact, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
from ragmesh import DeadlineExceeded

from benchmarks import fused
from benchmarks.bench import Bench
from benchmarks.fused import Candidates
from benchmarks.metrics import mean_ndcg
from benchmarks.report import Comparison, Figure, SuiteReport, Target

TOP = 20
DEADLINE_S = 0.2


def rerank(bench: Bench) -> SuiteReport:
    """nDCG@10 of the fused top 20 as it is, reranked, and reranked within 200 ms."""
    data = bench.scifact.data
    qrels = data.qrels["test"]
    texts = {one.id: fused.passage(one) for one in data.documents}
    bench.say(f"searching {len(qrels)} claims")
    found = fused.candidates(bench.client, data, qrels, TOP)
    before = mean_ndcg({query: one.documents for query, one in found.items()}, qrels, 10)
    bench.say(f"reranking {TOP} passages for each")
    whole = _Run.of(bench, data.queries, found, texts)
    alone = _Run.of(bench, data.queries, found, texts, prior=False)
    bench.say(f"the same within {DEADLINE_S * 1000:.0f} ms")
    hurried = _Run.of(bench, data.queries, found, texts, timeout_s=DEADLINE_S)
    after, within = (mean_ndcg(run.orders, qrels, 10) for run in (whole, hurried))
    return SuiteReport(
        suite="rerank",
        setting={
            "queries": f"{len(qrels)} test claims",
            "passages": f"the {TOP} that fused search finds, one an abstract",
            "model": whole.fingerprint,
        },
        comparisons=[
            Comparison(
                "nDCG@10 on test",
                Figure("reranked with the search's scores", after, ""),
                Figure("as searched", before, ""),
            ),
            Comparison(
                f"nDCG@10 on test, deadline {DEADLINE_S * 1000:.0f} ms",
                Figure("reranked as far as it went", within, ""),
                Figure("as searched", before, ""),
            ),
        ],
        figures=[
            Figure("nDCG@10 by the model's own scores", mean_ndcg(alone.orders, qrels, 10), ""),
            Figure("a request, p50", whole.p50_ms(), "ms", f"{TOP} passages, one at a time"),
            Figure("tokens a request", float(np.mean(whole.tokens)), "", "mean, all windows"),
            Figure(
                f"a request within {DEADLINE_S * 1000:.0f} ms, p99", hurried.percentile_ms(99), "ms"
            ),
            Figure(
                "passages scored within it", float(np.mean(hurried.scored)), "", f"mean, of {TOP}"
            ),
            Figure("requests that got no score in time", float(hurried.late), "", "order kept"),
        ],
        targets=[
            Target("rerank_ndcg10", after),
            Target("rerank_gain_within_200_ms", within - before),
        ],
    )


class _Run:
    """Every query reranked once, one at a time."""

    def __init__(self) -> None:
        self.orders: dict[str, list[str]] = {}
        self.times_ms: list[float] = []
        self.tokens: list[int] = []
        self.scored: list[int] = []
        self.late = 0
        self.fingerprint = ""

    @classmethod
    def of(
        cls,
        bench: Bench,
        queries: Mapping[str, str],
        found: Mapping[str, Candidates],
        texts: Mapping[str, str],
        *,
        prior: bool = True,
        timeout_s: float | None = None,
    ) -> _Run:
        run = cls()
        for query, one in found.items():
            begin_s = time.perf_counter()
            try:
                answer = fused.rerank(
                    bench.client, queries[query], one, texts, prior=prior, timeout_s=timeout_s
                )
            except DeadlineExceeded:
                # What a caller does who has the searched order in hand.
                run.orders[query] = list(one.documents)
                run.scored.append(0)
                run.late += 1
            else:
                run.orders[query] = fused.order(one, answer)
                run.scored.append(answer.passages_scored)
                run.tokens.append(sum(p.tokens for p in answer.passages))
                run.fingerprint = answer.fingerprint
            run.times_ms.append((time.perf_counter() - begin_s) * 1000)
        return run

    def p50_ms(self) -> float:
        return self.percentile_ms(50)

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.times_ms, percent))
