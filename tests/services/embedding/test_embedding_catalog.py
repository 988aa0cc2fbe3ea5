"""Several models in one node: loaded when first asked for, once, and for whoever still waits."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import numpy as np
import pytest
from ragmesh.api.embedding.v1 import embedding_model_pb2

from engine.errors import (
    DeadlineExceeded,
    EmbeddingModelNotFound,
    InvalidField,
    ModelTaskMismatch,
    ModelUnavailable,
    NodeDraining,
    TextTooLong,
)
from engine.models.encoder import Encoder
from services.config import ModelSettings, ServedModel
from tests.services.embedding import checkpoints
from tests.services.embedding.conftest import Nodes
from tests.services.embedding.embedding_node import converted_elsewhere

TEXT = "red blueish green."


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "second", seed=2, hidden=16)


@pytest.fixture
def settings(first: Path, second: Path) -> ModelSettings:
    """Two models, and a third that is broken."""
    return ModelSettings(
        directory=first,
        more=(
            ServedModel(id="other", source=str(second)),
            ServedModel(id="absent", source=str(second / "nowhere")),
        ),
    )


def loads(caplog: pytest.LogCaptureFixture, model: str) -> int:
    return sum(
        record.message == "model loaded" and getattr(record, "model", "") == model
        for record in caplog.records
    )


async def test_each_model_answers_with_its_own_vectors(
    node: Nodes, settings: ModelSettings, first: Path, second: Path, tmp_path: Path
) -> None:
    async with node(settings) as served:
        for name, directory in (("first", first), ("default", first), ("other", second)):
            alone = Encoder.load(directory, tmp_path / "alone", threads=1)
            expected = alone.embed([TEXT], "passage").vectors[0]
            assert np.allclose(await served.embed(name, TEXT), expected, atol=1e-5)


async def test_a_list_shows_what_is_known_of_models_that_are_not_in_memory(
    node: Nodes, settings: ModelSettings
) -> None:
    async with node(settings) as served:
        before = await served.models()
        assert sorted(before) == ["absent", "first", "other"]
        assert before["first"].loaded
        assert not before["other"].loaded
        assert (before["other"].dimensions, before["other"].tokens_max) == (16, 32)
        assert before["other"].task == embedding_model_pb2.MODEL_TASK_EMBED
        assert before["other"].memory_kib > 0
        assert before["absent"].task == embedding_model_pb2.MODEL_TASK_UNSPECIFIED
        await served.embed("other", TEXT)
        after = await served.model("other")
        assert after.loaded
        assert after.fingerprint == before["other"].fingerprint
        assert (after.precision, after.provider) == ("fp32", "cpu")


async def test_what_the_operator_says_of_a_model_goes_before_its_files(
    node: Nodes, first: Path, second: Path
) -> None:
    source = str(second)
    more = (
        ServedModel(id="plain", source=source),
        ServedModel(id="prompted", source=source, passage_prompt="red "),
        ServedModel(id="first-token", source=source, pooling="cls"),
        ServedModel(id="short", source=source, tokens_max=4),
    )
    async with node(ModelSettings(directory=first, more=more)) as served:
        vector = {one.id: await served.embed(one.id, "green blue") for one in more[:3]}
        assert np.allclose(await served.embed("plain", "red green blue"), vector["prompted"])
        assert not np.allclose(vector["first-token"], vector["plain"], atol=1e-3)
        with pytest.raises(TextTooLong):
            await served.embed("short", "red green blue")
        shown = await served.models()
        assert len({shown[one.id].fingerprint for one in more[:3]}) == 3


async def test_many_first_callers_share_one_load(
    node: Nodes, settings: ModelSettings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with node(settings) as served:
        vectors = await asyncio.gather(*(served.embed("other", TEXT) for _ in range(20)))
        assert all(np.allclose(vector, vectors[0], atol=1e-5) for vector in vectors)
    assert loads(caplog, "other") == 1


async def test_a_preloaded_model_is_there_when_the_node_is(
    node: Nodes, first: Path, second: Path
) -> None:
    more = (ServedModel(id="other", source=str(second), preload=True),)
    async with node(ModelSettings(directory=first, more=more)) as served:
        assert (await served.model("other")).loaded


async def test_a_caller_who_cannot_wait_for_a_load_ends_nobody_elses(
    node: Nodes,
    settings: ModelSettings,
    second: Path,
    cache_dir: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with node(settings) as served:
        with converted_elsewhere(second, cache_dir, tmp_path / "scratch"):
            patient = asyncio.create_task(served.embed("other", TEXT))
            leaving = asyncio.create_task(served.embed("other", TEXT))
            with pytest.raises(DeadlineExceeded):
                await served.embed("other", TEXT, within_s=0.1)
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)
            # The loop is free meanwhile, and so is every other model.
            await served.embed("first", TEXT, within_s=5.0)
            assert not patient.done()
        await asyncio.wait_for(patient, 20)
    assert loads(caplog, "other") == 1


async def test_a_load_goes_on_when_everybody_who_waited_has_left(
    node: Nodes, settings: ModelSettings, second: Path, cache_dir: Path, tmp_path: Path
) -> None:
    async with node(settings) as served:
        with (
            converted_elsewhere(second, cache_dir, tmp_path / "scratch"),
            pytest.raises(DeadlineExceeded),
        ):
            await served.embed("other", TEXT, within_s=0.1)
        async with asyncio.timeout(20):
            while not (await served.model("other")).loaded:
                await asyncio.sleep(0.01)


async def test_who_waits_for_a_load_is_sent_elsewhere_when_the_node_stops(
    node: Nodes, settings: ModelSettings, second: Path, cache_dir: Path, tmp_path: Path
) -> None:
    async with node(settings) as served:
        with converted_elsewhere(second, cache_dir, tmp_path / "scratch"):
            waiting = asyncio.create_task(served.embed("other", TEXT))
            await asyncio.sleep(0.1)
            await served.servicer.close()
            with pytest.raises(NodeDraining):
                await waiting


async def test_a_cross_encoder_asked_for_vectors_is_not_even_loaded(
    node: Nodes, first: Path, tmp_path: Path
) -> None:
    pairs = checkpoints.write(tmp_path / "pairs", seed=3, rerank=True)
    more = (ServedModel(id="pairs", source=str(pairs)),)
    async with node(ModelSettings(directory=first, more=more)) as served:
        with pytest.raises(ModelTaskMismatch) as refused:
            await served.embed("pairs", TEXT)
        assert refused.value.metadata["model"] == "pairs"
        shown = await served.model("pairs")
        assert (shown.loaded, shown.dimensions) == (False, 0)
        assert shown.task == embedding_model_pb2.MODEL_TASK_RERANK


async def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(
    node: Nodes, settings: ModelSettings
) -> None:
    async with node(settings) as served:
        with pytest.raises(EmbeddingModelNotFound, match="absent, first, other"):
            await served.embed("unheard-of", TEXT)
        with pytest.raises(ModelUnavailable, match="no model directory"):
            await served.embed("absent", TEXT)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (ModelSettings(more=(ServedModel(id="Big", source="x"),)), "models.more[0].id"),
        (ModelSettings(more=(ServedModel(id="default", source="x"),)), "models.more[0].id"),
        (ModelSettings(more=(ServedModel(id="a", source="x"),) * 2), "models.more[1].id"),
        (ModelSettings(hub_id="no slash"), "models.hub_id"),
        (ModelSettings(hub_id="org/name", directory=Path("/x")), "models.hub_id"),
        (ModelSettings(id="Big"), "models.id"),
    ],
    ids=["capitals", "reserved", "twice", "no hub id", "two defaults", "default's capitals"],
)
async def test_a_configuration_that_is_wrong_names_its_field(
    node: Nodes, settings: ModelSettings, field: str
) -> None:
    with pytest.raises(InvalidField) as refused:
        async with node(settings):
            pass
    assert refused.value.field == field
