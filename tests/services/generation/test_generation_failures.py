"""What callers may rely on when endpoints fail, of either protocol: another model answers where
none has begun, nobody waits for ever, and nothing that an endpoint said gets out."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import DeadlineExceeded, QueueFull, RagmeshError, UpstreamFailed
from services.errors import from_status, to_status
from tests.services.generation.generation_mesh import KEY, call
from tests.services.generation.model_node import ModelNode, model_node
from tests.services.generation.openai_endpoint import Deaf, Events, Refusal, Reply
from tests.services.generation.protocols import PROTOCOLS, pieces, whole

SPARE = "generationModels/spare"
SECRET = "internal secret"
LONG = b"data: " + b"x" * (10 << 20)
WRITERS: tuple[dict[str, Any], ...] = (
    {"id": "writer", "fallbacks": ("spare",)},
    {"id": "hasty", "fallbacks": ("spare",), "first_token_s": 0.5},
    {"id": "faint", "fallbacks": ("spare",), "idle_s": 0.5},
    {"id": "alone"},
)
HASTY = ("silence", "silence after the headers", "comments and nothing else")


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=PROTOCOLS)
async def node(request: pytest.FixtureRequest) -> AsyncIterator[tuple[ModelNode, str]]:
    """Models of one protocol, with `spare` of the other one as their fallback; `alone` has none."""
    spare: dict[str, Any] = {"id": "spare"}
    if request.param == "openai":
        async with model_node(*WRITERS, anthropic=(spare,), breaker_failures_max=10_000) as made:
            yield made, "openai"
    else:
        async with model_node(spare, anthropic=WRITERS, breaker_failures_max=10_000) as made:
            yield made, "anthropic"


def other(protocol: str) -> str:
    return next(name for name in PROTOCOLS if name != protocol)


def before_the_first_token(protocol: str) -> dict[str, Reply]:
    """How an endpoint may fail while another one can still answer."""
    return {
        "429": Refusal(429),
        "429 with Retry-After": Refusal(429, headers={"retry-after": "3600"}),
        "500": Refusal(500),
        "503": Refusal(503, body=f"<html>{SECRET}</html>"),
        "529": Refusal(529),
        "silence": Deaf(),
        "silence after the headers": Events([], hang=True),
        "comments and nothing else": Events([b": hm\n\n"] * 1_000, pause_s=0.05),
        "another kind of content": Events([b"<html></html>"], content_type="text/html"),
        "compressed": Events([b"\x1f\x8b"], headers={"content-encoding": "gzip"}),
        "no JSON": Events([b"data: {not json\n\n"]),
        "no object": Events([b"data: [1, 2]\n\n"]),
        "no UTF-8": Events([b"data: \xff\xfe\n\n"]),
        "deep JSON": Events([b"data: " + b"[" * 100_000 + b"\n\n"]),
        "another shape": Events([{"type": "content_block_delta", "choices": [7]}]),
        "an error": Events([{"type": "error", "error": {"message": SECRET}}]),
        "a line of 10 MB": Events([LONG]),
        "an event of 10 MB": Events([b"data: " + b"x" * 1000 + b"\n"] * 10_000),
        "nothing": Events([]),
        "no length and no end": Events([], headers={"content-length": "7"}),
    }


@pytest.mark.parametrize("how", before_the_first_token("openai"))
async def test_another_model_answers_where_one_cannot_begin(
    node: tuple[ModelNode, str], how: str
) -> None:
    mesh, protocol = node
    writer = "hasty" if how in HASTY else "writer"
    mesh.endpoints[writer].will(before_the_first_token(protocol)[how])
    mesh.endpoints["spare"].will(whole(other(protocol), ["In ", "1847."]))
    events = await mesh.events(model=f"generationModels/{writer}")
    assert events[0].started.model == SPARE
    finished = events[-1].finished
    assert (finished.text, finished.model) == ("In 1847.", SPARE)
    assert finished.usage.input_tokens == 7
    assert len(mesh.endpoints[writer].asked) == 1
    assert len(mesh.endpoints["spare"].asked) == 1


@pytest.mark.parametrize("how", ["cut", "hang", "no JSON", "an error", "a line of 10 MB"])
async def test_nobody_else_answers_once_the_first_token_is_there(
    node: tuple[ModelNode, str], how: str
) -> None:
    mesh, protocol = node
    begun = pieces(protocol, ["In "])
    replies = {
        "cut": Events(begun),
        "hang": Events(begun, hang=True),
        "no JSON": Events([*begun, b"data: {not json\n\n"]),
        "an error": Events([*begun, {"type": "error", "error": {"message": SECRET}}]),
        "a line of 10 MB": Events([*begun, LONG]),
    }
    model = "generationModels/faint" if how == "hang" else "generationModels/writer"
    mesh.endpoints[model.partition("/")[2]].will(replies[how])
    mesh.endpoints["spare"].will(whole(other(protocol), ["Never."]))
    events = await mesh.events(model=model)
    assert events[0].started.model == model
    assert "".join(e.delta.text for e in events) in ("In ", "")
    assert isinstance(from_status(events[-1].failed), UpstreamFailed)
    assert SECRET not in str(events[-1])
    assert not mesh.endpoints["spare"].asked


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 403, 404, 413, 422])
async def test_what_another_try_cannot_change_is_said_at_once_and_no_redirect_is_followed(
    node: tuple[ModelNode, str], status: int
) -> None:
    mesh, _ = node
    elsewhere = mesh.endpoints["spare"]
    elsewhere.will(Refusal(500))
    mesh.endpoints["writer"].will(Refusal(status, headers={"location": elsewhere.url}))
    with pytest.raises(UpstreamFailed, match=f"HTTP {status}") as caught:
        await mesh.text()
    assert "configuration" in caught.value.message
    assert len(mesh.endpoints["writer"].asked) == 1
    assert not elsewhere.asked


async def test_when_all_fail_the_last_failure_names_those_that_were_tried(
    node: tuple[ModelNode, str], caplog: pytest.LogCaptureFixture
) -> None:
    mesh, _ = node
    for endpoint in mesh.endpoints.values():
        endpoint.will(Refusal(500, headers={"retry-after-ms": "1"}))
    with caplog.at_level(logging.DEBUG), pytest.raises(UpstreamFailed) as caught:
        await mesh.text()
    assert caught.value.metadata["tried"] == f"generationModels/writer, {SPARE}"
    assert len(mesh.endpoints["spare"].asked) == 3
    shown = str(to_status(caught.value, "r1")) + caplog.text
    assert KEY not in shown
    assert SECRET not in shown


async def test_a_refusal_that_wants_a_long_pause_is_handed_on(
    node: tuple[ModelNode, str],
) -> None:
    mesh, _ = node
    mesh.endpoints["alone"].will(Refusal(429, headers={"retry-after": "30"}))
    with pytest.raises(UpstreamFailed) as caught:
        await mesh.text(model="generationModels/alone")
    assert caught.value.retry_after_s == 30.0
    assert len(mesh.endpoints["alone"].asked) == 1


async def test_an_answer_that_comes_drop_by_drop_comes_whole(
    node: tuple[ModelNode, str],
) -> None:
    mesh, protocol = node
    said = whole(protocol, ["In ", "1847", "."])
    drops = Events([b"" + bytes([b]) for e in said.events for b in _bytes(e)])
    mesh.endpoints["writer"].will(drops)
    assert (await mesh.text()).text == "In 1847."


def _bytes(event: Any) -> bytes:
    return event if isinstance(event, bytes) else f"data: {json.dumps(event)}\r\n\r\n".encode()


async def test_a_deadline_is_kept_whatever_models_are_left(node: tuple[ModelNode, str]) -> None:
    mesh, _ = node
    for endpoint in mesh.endpoints.values():
        endpoint.will(Deaf())
    with pytest.raises(DeadlineExceeded):
        await mesh.mesh.generation.GenerateText(
            pb.GenerateTextRequest(model="generationModels/alone", question="When?"), call(0.3)
        )
    await asyncio.wait_for(mesh.endpoints["alone"].gone.wait(), 60)


async def test_an_endpoint_that_keeps_failing_is_left_alone() -> None:
    async with model_node({"id": "writer"}, breaker_failures_max=3, breaker_open_s=3_600.0) as mesh:
        endpoint = mesh.endpoints["writer"]
        endpoint.will(Refusal(500, headers={"retry-after-ms": "1"}))
        with pytest.raises(UpstreamFailed, match="HTTP 500"):
            await mesh.text()
        assert len(endpoint.asked) == 3
        with pytest.raises(UpstreamFailed, match="left alone") as caught:
            await mesh.text()
        assert caught.value.retry_after_s is not None
        assert len(endpoint.asked) == 3


async def test_it_is_tried_again_after_a_while() -> None:
    async with model_node({"id": "writer"}, breaker_failures_max=1, breaker_open_s=0.1) as mesh:
        mesh.endpoints["writer"].will(Refusal(500))
        with pytest.raises(UpstreamFailed):
            await mesh.text()
        await asyncio.sleep(0.2)
        mesh.endpoints["writer"].will(whole("openai", ["In 1847."]))
        assert (await mesh.text()).text == "In 1847."


async def test_a_probe_whose_caller_leaves_does_not_shut_the_endpoint_for_ever() -> None:
    async with model_node({"id": "writer"}, breaker_failures_max=1, breaker_open_s=0.1) as mesh:
        endpoint = mesh.endpoints["writer"]
        endpoint.will(Refusal(500))
        with pytest.raises(UpstreamFailed):
            await mesh.text()
        await asyncio.sleep(0.2)
        endpoint.will(Deaf())
        probe = asyncio.ensure_future(mesh.text())
        await asyncio.wait_for(endpoint.heard.wait(), 60)
        probe.cancel()
        await asyncio.wait([probe])
        endpoint.will(whole("openai", ["In 1847."]))
        assert (await mesh.text()).text == "In 1847."


async def outcomes(mesh: ModelNode, calls: int) -> list[Any]:
    asked = [asyncio.ensure_future(mesh.text()) for _ in range(calls)]
    done: list[Any] = await asyncio.gather(*asked, return_exceptions=True)
    return done


async def test_no_more_are_asked_at_once_than_there_are_places_and_the_rest_is_refused() -> None:
    async with model_node(
        {"id": "writer", "concurrency_max": 2, "waiting_max": 3, "wait_s": 60.0}
    ) as mesh:
        mesh.endpoints["writer"].will(whole("openai", ["In 1847."], pause_s=0.05))
        found = await outcomes(mesh, 20)
        refused = [error for error in found if isinstance(error, QueueFull)]
        assert len(found) - len(refused) == 5
        assert all(error.retry_after_s for error in refused)
        assert [e for e in found if isinstance(e, RagmeshError)] == refused


async def test_who_finds_no_place_in_time_is_refused_and_leaves_no_gap() -> None:
    async with model_node({"id": "writer", "concurrency_max": 1, "wait_s": 0.1}) as mesh:
        endpoint = mesh.endpoints["writer"]
        endpoint.will(Deaf())
        holder = asyncio.ensure_future(mesh.text())
        await asyncio.wait_for(endpoint.heard.wait(), 60)
        with pytest.raises(QueueFull, match=r"within 0\.1 s"):
            await mesh.text()
        endpoint.will(whole("openai", ["In 1847."]))
        holder.cancel()
        await asyncio.wait([holder])
        assert (await mesh.text()).text == "In 1847."


async def test_a_full_model_hands_its_callers_to_its_fallback() -> None:
    full = {"id": "writer", "concurrency_max": 1, "waiting_max": 0, "fallbacks": ("spare",)}
    async with model_node(full, {"id": "spare"}) as mesh:
        mesh.endpoints["writer"].will(Deaf())
        holder = asyncio.ensure_future(mesh.text())
        await asyncio.wait_for(mesh.endpoints["writer"].heard.wait(), 60)
        mesh.endpoints["spare"].will(whole("openai", ["In 1847."]))
        assert (await mesh.text()).model == SPARE
        holder.cancel()
        await asyncio.wait([holder])


async def test_a_caller_who_leaves_while_it_waits_takes_no_place() -> None:
    async with model_node({"id": "writer", "concurrency_max": 1, "wait_s": 60.0}) as mesh:
        endpoint = mesh.endpoints["writer"]
        endpoint.will(Deaf())
        holder = asyncio.ensure_future(mesh.text())
        await asyncio.wait_for(endpoint.heard.wait(), 60)
        waiting = [asyncio.ensure_future(mesh.text()) for _ in range(5)]
        await asyncio.sleep(0)
        for task in (*waiting, holder):
            task.cancel()
        await asyncio.wait([*waiting, holder])
        endpoint.will(whole("openai", ["In 1847."]))
        assert (await mesh.text()).text == "In 1847."
        assert len(endpoint.asked) == 1
