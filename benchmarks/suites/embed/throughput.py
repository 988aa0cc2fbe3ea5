"""Abstracts a second: raw, through the service, and of the peers; and float32 beside what matrix
multiplication alone would allow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from ragmesh import Client

from benchmarks import gemm
from benchmarks.bench import Bench
from benchmarks.data import Matrix
from benchmarks.peers.process import PeerProcess
from benchmarks.rates import Measured, Rates, rounds_in_turns
from benchmarks.report import Comparison, Figure, SuiteReport, Target
from benchmarks.suites.embed.material import Material
from benchmarks.suites.embed.sides import Sides

ABSTRACTS, ROUNDS = 512, 3
CALLERS, BATCH = 2, 128
GEMM_TOKENS, GEMM_S = 1536, 2.0
"""A batch of the encoder's own size, and for how long it is repeated in each round."""

ALIKE = 0.9

RAW, FP32, SERVICE = "ragmesh, raw", "ragmesh, raw, fp32", "ragmesh, service"
REFERENCE = "sentence-transformers"
NUMPY, ONNXRUNTIME = "numpy", "onnxruntime"

EmbedAll = Callable[[list[str]], tuple[Matrix, float]]
"""Vectors, and the seconds that they took."""


def run(bench: Bench, sides: Sides, material: Material) -> SuiteReport:
    """Tokens a second of each side, every round with other abstracts, the same for all."""
    count, rounds = (8, 2) if bench.quick else (ABSTRACTS, ROUNDS)
    texts = [material.slice(number, count) for number in range(rounds)]
    lengths = [material.tokens(one) for one in texts]
    vectors: dict[str, Matrix] = {}
    with Client(sides.node().address, timeout_s=120, lane="bulk") as client:
        precision = client.get_embedding_model().precision
        ways = _ways(sides, client)

        def measure(name: str, number: int) -> float:
            found, seconds = ways[name](texts[number])
            vectors.setdefault(name, found)
            return sum(lengths[number]) / seconds

        measured: dict[str, Measured] = {name: partial(measure, name) for name in ways}
        bench.say(f"embedding {count} abstracts a round, {rounds} rounds: {', '.join(ways)}")
        rates = rounds_in_turns(measured | _gemm(bench, sides), rounds)
    reference = rates.get(REFERENCE, Rates((float("nan"),) * rounds))
    ours = [name for name in (RAW, SERVICE, FP32) if name in rates]
    peers = [name for name in ways if name not in (*ours, REFERENCE)]
    tokens_each = sum(map(sum, lengths)) / (count * rounds)
    fastest = max(NUMPY, ONNXRUNTIME, key=lambda name: rates[name].median)
    allowed = Rates(tuple(map(gemm.tokens_per_s, rates[fastest].values, lengths)))
    return SuiteReport(
        suite="throughput",
        setting={
            "abstracts": f"{count} a round, {rounds} rounds, {tokens_each:.0f} tokens each",
            "service": f"SDK, bulk lane, {CALLERS} callers, {BATCH} texts a call, {precision}",
        },
        comparisons=[
            *(_compared(name, rates[name], REFERENCE, reference) for name in (*ours, *peers)),
            _compared(FP32, rates[FP32], f"sgemm of {fastest}", allowed),
        ],
        figures=[
            *(
                Figure(name, rates[name].median / tokens_each, "texts/s")
                for name in (*ours, *peers, REFERENCE)
                if name in rates
            ),
            *(
                Figure(f"sgemm, {name}", rates[name].median / 1e9, "GFLOP/s", _shape())
                for name in (NUMPY, ONNXRUNTIME)
            ),
            *_alike(vectors),
        ],
        targets=[
            Target("embed_raw_over_st", rates[RAW].over(reference).median),
            Target("embed_service_over_st", rates[SERVICE].over(reference).median),
            Target("embed_fp32_over_sgemm", rates[FP32].over(allowed).median),
        ],
    )


def _ways(sides: Sides, client: Client) -> dict[str, EmbedAll]:
    """The installed sides by name."""
    peers: Mapping[str, PeerProcess | None] = {
        REFERENCE: sides.peer("sentence_transformers"),
        RAW: sides.peer("encoder"),
        FP32: sides.peer("encoder", precision="fp32"),
        "infinity-emb": sides.peer("infinity"),
        "onnxruntime, naive": sides.peer("onnxruntime"),
    }
    if sides.tei_url:
        peers = {**peers, "text-embeddings-inference": sides.peer("tei", url=sides.tei_url)}
    ways = {name: partial(_by_peer, peer) for name, peer in peers.items() if peer is not None}
    return {**ways, SERVICE: partial(_by_service, client)}


def _by_peer(peer: PeerProcess, texts: list[str]) -> tuple[Matrix, float]:
    done = peer.embed(texts)
    return done.vectors, done.seconds


def _by_service(client: Client, texts: list[str]) -> tuple[Matrix, float]:
    batches = [texts[start : start + BATCH] for start in range(0, len(texts), BATCH)]
    begin_s = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as callers:
        done = list(callers.map(lambda batch: client.embed_texts(batch, truncate=True), batches))
    seconds = time.perf_counter() - begin_s
    rows = [np.asarray(vector, np.float32) for part in done for vector in part.vectors]
    return np.stack(rows), seconds


def _gemm(bench: Bench, sides: Sides) -> dict[str, Measured]:
    seconds = 0.2 if bench.quick else GEMM_S
    return {
        NUMPY: lambda _: gemm.numpy_sgemm(GEMM_TOKENS, seconds),
        ONNXRUNTIME: lambda _: gemm.onnxruntime_sgemm(GEMM_TOKENS, seconds, sides.threads),
    }


def _compared(name: str, ours: Rates, peer_name: str, peer: Rates) -> Comparison:
    return Comparison(
        name,
        Figure(ours.spread, ours.median, "tokens/s"),
        Figure(f"{peer_name}, {peer.spread}", peer.median, "tokens/s"),
    )


def _shape() -> str:
    return f"{GEMM_TOKENS} tokens through the weights of all layers"


def _alike(vectors: Mapping[str, Matrix]) -> list[Figure]:
    """The cosines of the first round's vectors. Raises AssertionError for a side that did other
    work: no precision takes a vector below ALIKE."""
    figures = []
    for name, rows in vectors.items():
        if REFERENCE in vectors and name != REFERENCE:
            cosines = (rows * vectors[REFERENCE]).sum(1)
            least = f"least {cosines.min():.4f}"
            figures.append(
                Figure(f"cosine with {REFERENCE}, {name}", float(cosines.mean()), "", least)
            )
            if not cosines.min() >= ALIKE:
                raise AssertionError(f"{name} is not the same model: cosine {least}")
    return figures
