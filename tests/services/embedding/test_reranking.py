"""Rerankings through a node's queue are what the model says of each window, however many callers
there are, and with a deadline a beginning of that."""

from __future__ import annotations

import asyncio
import random
import statistics
from pathlib import Path

import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from engine.errors import DeadlineExceeded, ModelTaskMismatch, TextTooLong
from engine.models import ranking
from engine.models.cross_encoder import CrossEncoder
from engine.models.encoder import Encoder
from engine.models.late import max_sim, token_vectors
from services.config import ModelSettings, ServedModel
from tests.engine.models import families
from tests.services.embedding.conftest import Nodes
from tests.services.embedding.embedding_node import EmbeddingNode, call

QUERY = "red blueish ?"
WORDS = ("red", "green", "blueish", "jade", "wine", ".")
READS = {"sentence_bert_config.json": {"max_seq_length": 32}}
DEFAULT, JUDGE = "embeddingModels/default", "embeddingModels/judge"


@pytest.fixture
def first(tmp_path: Path) -> Path:
    """An encoder that tells words apart and reads 32 tokens, the default model of every node."""
    return families.write(tmp_path / "first", "bert", files=READS)


def _passages(count: int, words_max: int = 80) -> list[str]:
    """Random ones, many of them longer than the models read; some are empty."""
    chance = random.Random(7)
    return [" ".join(chance.choices(WORDS, k=chance.randint(0, words_max))) for _ in range(count)]


async def _rerank(
    node: EmbeddingNode,
    passages: list[str],
    *,
    query: str = QUERY,
    model: str = DEFAULT,
    prior: list[float] | None = None,
    within_s: float | None = None,
) -> pb.RerankPassagesResponse:
    request = pb.RerankPassagesRequest(
        model=model, query=query, passages=passages, prior_scores=prior or []
    )
    answer = await node.mesh.method("embedding", "RerankPassages")(request, call(within_s))
    assert isinstance(answer, pb.RerankPassagesResponse)
    return answer


def _raw(answer: pb.RerankPassagesResponse) -> dict[int, float]:
    """The raw scores by the place in the request."""
    return {p.index: p.raw_score for p in answer.passages if p.HasField("raw_score")}


def _late_interaction(directory: Path, cache_dir: Path, passages: list[str]) -> list[float]:
    """Each passage by itself, window by window."""
    encoder = Encoder.load(directory, cache_dir, threads=1, provider="cpu")
    (query,) = encoder.tokenize([QUERY], "query")
    asked = token_vectors(encoder.outputs([query])[0], query)
    return [
        max(max_sim(asked, token_vectors(encoder.outputs([w])[0], w)) for w in windows)
        for windows in encoder.windows(passages, "passage")
    ]


@pytest.mark.parametrize("within_s", [None, 30.0])
async def test_a_passage_has_the_score_of_its_best_window(
    node: Nodes, first: Path, tmp_path: Path, within_s: float | None
) -> None:
    passages = _passages(60)
    expected = _late_interaction(first, tmp_path / "own", passages)
    prior = [random.Random(1).random() for _ in passages]
    async with node(ModelSettings(directory=first)) as started:
        answer = await _rerank(started, passages, within_s=within_s)
        blended = await _rerank(started, passages, prior=prior, within_s=within_s)
    raw = _raw(answer)
    assert statistics.stdev(expected) > 0.01
    assert [raw[i] for i in range(len(passages))] == pytest.approx(expected, abs=1e-5)
    assert max(p.windows for p in answer.passages) > 2
    for found, given in ((answer, []), (blended, prior)):
        exact = [_raw(found)[i] for i in range(len(passages))]
        ranked = ranking.rank(exact, given, ranking.LATE_INTERACTION)
        assert [p.score for p in found.passages] == pytest.approx(ranked.scores, abs=1e-4)


async def test_a_cross_encoder_reads_each_window_with_the_query(
    node: Nodes, first: Path, tmp_path: Path
) -> None:
    judge = families.write(tmp_path / "judge", "bert-pairs", files=READS)
    passages = _passages(40)
    encoder = CrossEncoder.load(judge, tmp_path / "own", threads=1, provider="cpu")
    expected = [
        max(encoder.forward([window])[0] for window in windows)
        for windows in encoder.windows(QUERY, passages)
    ]
    more = (ServedModel(id="judge", source=str(judge)),)
    async with node(ModelSettings(directory=first, more=more)) as started:
        raw = _raw(await _rerank(started, passages, model=JUDGE))
        with pytest.raises(TextTooLong) as caught:
            await _rerank(started, passages, query="red " * 14, model=JUDGE)
        with pytest.raises(ModelTaskMismatch):
            await started.embed("judge", "red")
    assert statistics.stdev(expected) > 0.001
    assert [raw[i] for i in range(len(passages))] == pytest.approx(expected, abs=1e-5)
    assert caught.value.field == "query"
    assert caught.value.metadata == {"tokens": "14", "tokens_max": "13"}


async def test_with_a_deadline_it_is_a_beginning_of_the_same(node: Nodes, first: Path) -> None:
    passages, within_s, seen = _passages(1_000), 0.02, set()
    async with node(ModelSettings(directory=first)) as started:
        whole = _raw(await _rerank(started, passages))
        while "whole" not in seen:
            within_s *= 1.3
            try:
                answer = await _rerank(started, passages, within_s=within_s)
            except DeadlineExceeded:
                seen.add("nothing")
                continue
            seen.add("partial" if answer.partial else "whole")
            count = answer.passages_scored
            assert 1 <= count <= len(passages)
            raw = _raw(answer)
            assert sorted(raw) == list(range(count))
            assert [raw[i] for i in range(count)] == pytest.approx(
                [whole[i] for i in range(count)], abs=1e-5
            )
            rest = [p.index for p in answer.passages[count:]]
            assert rest == list(range(count, len(passages)))
    assert "partial" in seen


async def test_callers_at_once_get_their_own_answers(node: Nodes, first: Path) -> None:
    passages = _passages(30)
    queries = [" ".join([one, *others]) for one in WORDS for others in (["red"], ["green", "."])]
    async with node(ModelSettings(directory=first)) as started:
        alone = [_raw(await _rerank(started, passages, query=query)) for query in queries]
        together = await asyncio.gather(
            *(_rerank(started, passages, query=query) for query in queries)
        )
    for raw, answer in zip(alone, together, strict=True):
        assert _raw(answer) == pytest.approx(raw, abs=1e-5)
    assert alone[0] != pytest.approx(alone[-1], abs=1e-3)


async def test_a_caller_who_leaves_takes_everything_along(node: Nodes, first: Path) -> None:
    async with node(ModelSettings(directory=first)) as started:
        await started.embed("default", "red")
        before = asyncio.all_tasks()
        for wait_s in (0.0, 0.01, 0.05):
            leaving = asyncio.create_task(_rerank(started, _passages(1_000)))
            await asyncio.sleep(wait_s)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert asyncio.all_tasks() - before == set()
        async with started.servicer.catalog.using("default") as model, asyncio.timeout(60):
            while model.queue.load.tokens_waiting:  # the batch that ran when they left
                await asyncio.sleep(0.01)
