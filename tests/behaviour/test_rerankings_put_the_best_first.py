"""Reranked passages stand as a reader would order them, as far as time allowed."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from tests.behaviour.given import abstracts
from tests.behaviour.refusals import Refused
from tests.behaviour.rest_rung import RestRung
from tests.behaviour.rungs import Rung

MODEL = "embeddingModels/default"
JUDGE = "embeddingModels/judge"
SLACK_S = 5.0
"""How much later than its deadline an answer may come on a machine that does other things. What is
given up would take several times as long."""

FACTS = {
    "When does the ferry to the island leave?": "The boat sails at seven in the morning.",
    "How tall is the church tower?": "The steeple rises 61 meters above the square.",
    "Who repairs bicycles in the village?": "Marta fixes bikes in her workshop by the bridge.",
    "What do hedgehogs eat?": "Beetles, worms and slugs are a hedgehog's diet.",
}
FILLER = "The committee met again and talked about the budget of the previous year. "


async def rerank(
    rung: Rung, query: str, passages: list[str], timeout_s: float = 20.0, **fields: Any
) -> pb.RerankPassagesResponse:
    request = pb.RerankPassagesRequest(
        **{"model": MODEL, "query": query, "passages": passages, **fields}
    )
    answer = await rung.call("RerankPassages", request, timeout_s=timeout_s)
    assert isinstance(answer, pb.RerankPassagesResponse)
    assert sorted(passage.index for passage in answer.passages) == list(range(len(passages)))
    scored, rest = (
        answer.passages[: answer.passages_scored],
        answer.passages[answer.passages_scored :],
    )
    scores = [passage.score for passage in scored]
    assert scores == sorted(scores, reverse=True) and all(0 <= score <= 1 for score in scores)
    assert all(p.HasField("score") and p.HasField("raw_score") and p.windows for p in scored)
    assert not any(p.HasField("score") or p.HasField("raw_score") or p.windows for p in rest)
    assert sorted(p.index for p in scored) == list(range(answer.passages_scored))
    assert [p.index for p in rest] == list(range(answer.passages_scored, len(passages)))
    assert answer.partial == bool(rest)
    return answer


async def test_the_passage_that_answers_stands_first(rung: Rung) -> None:
    passages = list(FACTS.values())
    for place, query in enumerate(FACTS):
        answer = await rerank(rung, query, passages)
        assert answer.passages[0].index == place, query
        assert answer.passages[0].score > answer.passages[1].score


async def test_an_answer_says_what_it_rests_on(rung: Rung) -> None:
    passages = list(FACTS.values())
    answer = await rerank(rung, "What do hedgehogs eat?", passages)
    assert (answer.partial, answer.passages_scored, answer.query_truncated) == (False, 4, False)
    embedded = await rung.call("EmbedTexts", pb.EmbedTextsRequest(model=MODEL, texts=passages))
    assert answer.fingerprint == embedded.fingerprint
    assert [p.tokens for p in sorted(answer.passages, key=lambda p: p.index)] == [
        e.tokens for e in embedded.embeddings
    ]
    assert all(-1 <= p.raw_score <= 1 and p.windows == 1 for p in answer.passages)
    timings = answer.timings
    assert timings.lane == pb.LANE_INTERACTIVE and timings.batch_texts >= 1
    assert timings.inference_ms > 0 and 0 <= timings.padding_share < 1


async def test_what_cannot_be_told_apart_keeps_the_callers_order(rung: Rung) -> None:
    answer = await rerank(rung, "How tall is the tower?", ["The same text."] * 30)
    assert [passage.index for passage in answer.passages] == list(range(30))
    assert answer.passages[0].raw_score == pytest.approx(answer.passages[-1].raw_score, abs=1e-4)


async def test_a_fact_at_the_end_of_a_long_passage_is_found(rung: Rung) -> None:
    query = "Who repairs bicycles in the village?"
    filler = FILLER * (5_000 // len(FILLER.split()))
    passages = [filler, filler + FACTS[query], "The steeple rises 61 meters above the square."]
    answer = await rerank(rung, query, passages)
    assert answer.passages[0].index == 1
    found = {passage.index: passage for passage in answer.passages}
    assert found[1].windows > 10 and found[2].windows == 1
    assert found[1].tokens > 5_000
    assert found[1].raw_score > found[0].raw_score + 0.1


async def test_an_empty_passage_is_allowed_and_comes_last(rung: Rung) -> None:
    answer = await rerank(rung, "What do hedgehogs eat?", ["", *FACTS.values(), FILLER])
    assert (answer.passages[-1].index, answer.passages[-1].raw_score) == (0, -1.0)
    assert answer.passages[-1].windows == 1


async def test_priors_count_beside_the_model(rung: Rung) -> None:
    query, passages = "What do hedgehogs eat?", list(FACTS.values())
    alone = [passage.index for passage in (await rerank(rung, query, passages)).passages]
    for chosen in range(len(passages)):
        prior = [9.0 if place == chosen else 1.0 for place in range(len(passages))]
        answer = await rerank(rung, query, passages, prior_scores=prior)
        others = [passage.index for passage in answer.passages if passage.index != chosen]
        order = [passage.index for passage in answer.passages]
        assert order.index(chosen) < alone.index(chosen) or order[0] == chosen
        assert others == [place for place in alone if place != chosen]
        same = await rerank(rung, query, passages, prior_scores=[p * 64 - 5 for p in prior])
        assert [p.index for p in same.passages] == [p.index for p in answer.passages]
    equal = await rerank(rung, query, passages, prior_scores=[0.1] * len(passages))
    assert [passage.index for passage in equal.passages] == alone


async def test_odd_characters_are_text(rung: Rung) -> None:
    passages = ["a\0b", "\0", "a" * 1_000_000, "\u202e😀\ufeff\n\t", *FACTS.values()]
    answer = await rerank(rung, "What do\0 hedgehogs eat?", passages)
    assert answer.passages[0].index == len(passages) - 1
    assert answer.passages_scored == len(passages)


async def test_a_query_that_is_too_long_is_cut_where_that_is_asked_for(rung: Rung) -> None:
    query = "What do hedgehogs eat? " * 200
    answer = await rerank(rung, query, list(FACTS.values()), truncate=True)
    assert answer.query_truncated
    assert answer.passages[0].index == 3


async def test_a_deadline_ends_with_what_was_scored_until_then(rung: Rung) -> None:
    passages = [one["text"] for one in abstracts()] * 2
    for timeout_s in (2.5, 5.0, 10.0):  # a twentieth of it is left for the way of the answer
        begin_s = time.monotonic()
        try:
            answer = await rerank(rung, "How do cells divide?", passages[:1_024], timeout_s)
        except Refused as refused:
            if refused.code != "DEADLINE_EXCEEDED" or timeout_s == 10.0:
                raise
        else:
            break
    assert time.monotonic() - begin_s < timeout_s + SLACK_S
    assert answer.partial
    assert 1 <= answer.passages_scored < 1_024
    assert answer.timings.inference_ms <= timeout_s * 1000


async def test_a_deadline_that_is_too_short_for_one_passage_is_exceeded(rung: Rung) -> None:
    begin_s = time.monotonic()
    with pytest.raises(Refused) as refused:
        await rerank(rung, "How tall is the tower?", [FILLER * 12_000], timeout_s=0.5)
    assert refused.value.code == "DEADLINE_EXCEEDED"
    assert time.monotonic() - begin_s < 0.5 + SLACK_S
    begin_s = time.monotonic()  # and nobody waits behind what was given up
    await rerank(rung, "What do hedgehogs eat?", list(FACTS.values()))
    assert time.monotonic() - begin_s < SLACK_S


async def test_a_cross_encoder_scores_in_its_own_way(rung: Rung) -> None:
    passages = ["blue", "the red rose is greener than jade", "", "gold " * 300]
    answer = await rerank(rung, "red roses?", passages, model=JUDGE)
    found = {passage.index: passage for passage in answer.passages}
    assert len({p.raw_score for p in answer.passages}) == len(passages)
    for passage in answer.passages:
        assert passage.score == pytest.approx(1 / (1 + math.exp(-passage.raw_score)), abs=1e-6)
    assert [found[i].windows for i in range(4)] == [1, 1, 1, 2]
    other = await rerank(rung, "red roses?", passages)
    assert answer.fingerprint != other.fingerprint
    cut = await rerank(rung, "red " * 100, passages, model=JUDGE, truncate=True)
    assert cut.query_truncated


async def test_lone_surrogates_are_no_text(split_rungs: dict[str, Rung]) -> None:
    """Only JSON can say them; a gRPC message that holds them is malformed."""
    rest = split_rungs["rest"]
    assert isinstance(rest, RestRung)
    for body in ({"query": "\ud800", "passages": ["a"]}, {"query": "a", "passages": ["\udfff"]}):
        content = json.dumps(body).encode()
        assert b"\\ud" in content
        answer = await rest.http.post(
            f"/v1/{MODEL}:rerank", content=content, headers={"content-type": "application/json"}
        )
        assert answer.status_code == 400, answer.text
        assert answer.json()["details"][0]["reason"] == "MALFORMED_MESSAGE"
