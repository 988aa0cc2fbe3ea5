"""What the price file of the configuration does to answers, and what a broken one does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ragmesh.api.generation.v1 import citation_pb2, message_pb2
from ragmesh.api.generation.v1 import generation_service_pb2 as pb

from engine.errors import InvalidField
from services.generation.price_file import LOOK_S, PriceFile
from tests.services.generation.model_node import model_node
from tests.services.generation.openai_endpoint import MODEL, Events, chunk
from tests.services.generation.protocols import ending, pieces, whole


def prices(version: str, per_million: float) -> str:
    return (
        f'version = "{version}"\ncurrency = "USD"\n[models."{MODEL}"]\n'
        f"input_per_million = {per_million}\noutput_per_million = {2 * per_million}\n"
    )


async def test_every_answer_says_what_it_cost_by_which_prices(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(prices("v1", 3.0))
    async with model_node({"id": "writer"}, prices=file) as mesh:
        mesh.endpoints["writer"].will(whole("openai", ["In 1847."], 5))
        usage = (await mesh.text()).usage
        assert usage == citation_pb2.Usage(
            input_tokens=7,
            output_tokens=5,
            cost_nanos=7 * 3_000 + 5 * 6_000,
            currency="USD",
            price_version="v1",
        )
        assert (await mesh.events())[-1].finished.usage == usage
        mesh.endpoints["writer"].will(whole("openai", ["NO_ANSWER"], 5))
        assert (await mesh.text()).usage == usage
        quoted = await mesh.text(model="generationModels/extractive")
        assert quoted.usage == citation_pb2.Usage()


async def test_what_an_endpoint_took_from_its_cache_costs_less(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(prices("v1", 3.0) + "cached_input_per_million = 1\n")
    spare = {"id": "claude"}
    async with model_node({"id": "writer"}, anthropic=(spare,), prices=file) as mesh:
        usage = {
            "prompt_tokens": 100,
            "completion_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 60},
        }
        mesh.endpoints["writer"].will(
            Events([chunk("Yes."), chunk("", "stop"), {"choices": [], "usage": usage}])
        )
        counted = {
            "input_tokens": 30,
            "cache_creation_input_tokens": 10,
            "cache_read_input_tokens": 60,
        }
        start = {"type": "message_start", "message": {"usage": counted}}
        said = pieces("anthropic", ["Yes."])[1:]
        mesh.endpoints["claude"].will(Events([start, *said, *ending("anthropic", 5)]))
        for model in ("writer", "claude"):
            found = (await mesh.text(model=f"generationModels/{model}")).usage
            assert (found.input_tokens, found.cached_input_tokens) == (100, 60)
            assert found.cost_nanos == 40 * 3_000 + 60 * 1_000 + 5 * 6_000
            assert not found.estimated


async def test_a_model_without_a_price_says_only_its_tokens(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(prices("v1", 3.0).replace(MODEL, "another"))
    async with model_node({"id": "writer"}, prices=file) as mesh:
        mesh.endpoints["writer"].will(whole("openai", ["In 1847."], 5))
        usage = (await mesh.text()).usage
        assert usage == citation_pb2.Usage(input_tokens=7, output_tokens=5)


async def test_an_estimate_bounds_what_the_answer_costs_then(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(prices("v1", 3.0))
    async with model_node({"id": "writer"}, prices=file) as mesh:
        role = message_pb2.ChatMessage
        chat = [role(role=role.ROLE_USER, text="Wann kam die Eisenbahn nach Zürich? " * 50)]
        request = pb.EstimateCostRequest(
            model="generationModels/writer", messages=chat, output_tokens_max=100
        )
        estimate = await mesh.ask("EstimateCost", request)
        read = estimate.input_tokens_high - estimate.input_tokens_low
        assert 0 < estimate.input_tokens_low < read
        assert estimate.output_tokens_high == 100
        assert estimate.cost_low_nanos == estimate.input_tokens_low * 3_000
        assert estimate.cost_high_nanos == estimate.input_tokens_high * 3_000 + 100 * 6_000
        assert (estimate.currency, estimate.price_version) == ("USD", "v1")
        assert not mesh.endpoints["writer"].asked
        free = pb.EstimateCostRequest(model="generationModels/extractive", question="What?")
        assert await mesh.ask("EstimateCost", free) == pb.EstimateCostResponse()


@pytest.mark.parametrize("text", [None, "", "version = ", prices("v1", -1)])
async def test_a_broken_file_keeps_the_node_from_starting(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "prices.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(InvalidField) as caught:
        async with model_node({"id": "writer"}, prices=file):
            pass
    assert "price file" in caught.value.message


async def test_a_changed_file_counts_and_a_broken_one_leaves_the_last_good_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, now = tmp_path / "prices.json", [0.0]
    toml = tmp_path / "prices.toml"
    toml.write_text(prices("v1", 3.0))
    file = PriceFile(toml, clock=lambda: now[0])
    await file.open()

    async def version() -> str:
        now[0] += LOOK_S
        return (await file.table()).version

    assert await version() == "v1"
    toml.write_text(prices("v2", 3.0))
    assert await version() == "v2"
    for broken in ("version = ", prices("v3", -1), "\x00", "x" * (5 << 20)):
        toml.write_text(broken)
        with caplog.at_level(logging.ERROR):
            assert await version() == "v2"
            assert await version() == "v2"
    assert caplog.text.count("v2 goes on") == 4
    toml.unlink()
    assert await version() == "v2"
    path.write_text(prices("v4", 3.0))
    path.rename(toml)
    assert await version() == "v4"


async def test_between_two_looks_the_file_is_left_alone(tmp_path: Path) -> None:
    path, now = tmp_path / "prices.toml", [0.0]
    path.write_text(prices("v1", 3.0))
    file = PriceFile(path, clock=lambda: now[0])
    await file.open()
    path.write_text(prices("v2", 3.0))
    assert (await file.table()).version == "v1"
    now[0] += LOOK_S
    assert (await file.table()).version == "v2"
