"""The load is what it says: sent when it was meant to be, and charged from then on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

from benchmarks.load import LANE_KEY, Job, poisson, put
from benchmarks.node import EmbeddingNode, embedding_node

SERVICE_S = 0.05


def test_poisson_arrivals_are_as_many_and_as_irregular_as_they_should_be() -> None:
    times = np.array(poisson(20, 500, seed=3))
    gaps_s = np.diff(times)
    assert (gaps_s > 0).all() and times[0] > 0 and times[-1] < 500
    assert len(times) == pytest.approx(10_000, rel=0.05)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(1, rel=0.05)
    assert poisson(20, 500, seed=3) == times.tolist() != poisson(20, 500, seed=4)


class _OneAtATime(grpc.GenericRpcHandler):
    """Takes SERVICE_S for each call and refuses the text `refuse`."""

    def __init__(self) -> None:
        self.seen: list[tuple[list[str], str]] = []

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            texts = list(pb.EmbedTextsRequest.FromString(data).texts)
            lane = dict(context.invocation_metadata()).get(LANE_KEY, "")
            self.seen.append((texts, str(lane)))
            time.sleep(SERVICE_S)
            if "refuse" in texts:
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
            return b"vectors"

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
def slow() -> Iterator[tuple[str, _OneAtATime]]:
    """A server that is slower than any embedding, so that waiting can be told from working."""
    handler = _OneAtATime()
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}", handler
    server.stop(0).wait()


def test_an_open_job_is_charged_for_what_waits_behind_a_slow_answer(
    slow: tuple[str, _OneAtATime],
) -> None:
    address, handler = slow
    job = Job("all", [[str(n)] for n in range(6)], arrivals_s=[0.01] * 6)
    outcome = put(address, [job])["all"]
    assert sorted(texts for texts, _ in handler.seen) == [[str(n)] for n in range(6)]
    for place, latency_ms in enumerate(sorted(outcome.latencies_ms), 1):
        assert latency_ms >= place * SERVICE_S * 1000


def test_a_closed_job_sends_everything_once_with_no_more_calls_than_callers(
    slow: tuple[str, _OneAtATime],
) -> None:
    address, handler = slow
    job = Job("bulk", [["a", str(n)] for n in range(8)], lane="bulk", callers=2)
    outcome = put(address, [job])["bulk"]
    assert sorted(handler.seen) == [(["a", str(n)], "bulk") for n in range(8)]
    assert outcome.texts == 16
    assert outcome.elapsed_s >= 8 * SERVICE_S
    assert outcome.texts_per_s == 16 / outcome.elapsed_s
    assert max(outcome.latencies_ms) >= 2 * SERVICE_S * 1000 * 0.9


def test_open_jobs_end_with_the_closed_ones_and_refusals_are_counted(
    slow: tuple[str, _OneAtATime],
) -> None:
    address, _ = slow
    closed = Job("closed", [["refuse"], ["x"], ["x"]])
    opened = Job("open", [["y"]] * 1_000, arrivals_s=[n * 0.1 for n in range(1_000)])
    outcomes = put(address, [closed, opened])
    assert outcomes["closed"].failures == {"RESOURCE_EXHAUSTED": 1}
    assert outcomes["closed"].texts == 2
    assert 1 <= outcomes["open"].texts <= 20
    assert not outcomes["open"].failures


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddingNode]:
    with embedding_node(tmp_path_factory.mktemp("models"), threads=1) as running:
        yield running


def test_a_node_of_its_own_embeds_the_load_and_counts_its_padding(node: EmbeddingNode) -> None:
    before = node.model_tokens()
    outcome = put(node.address, [Job("mixed", [["a", "a b c d e f g h"]])])["mixed"]
    assert outcome.texts == 2
    now = node.model_tokens()
    assert now["text"] - before["text"] == (1 + 2) + (8 + 2)
    assert now["padding"] - before["padding"] == 10 - 3


def test_a_node_that_cannot_serve_leaves_its_last_words(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="there is no model directory"),
        embedding_node(tmp_path, directory=tmp_path / "none"),
    ):
        pass
