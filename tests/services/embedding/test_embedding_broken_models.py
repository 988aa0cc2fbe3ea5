"""Model files that are broken, found at the load, repaired where ragmesh can and told where not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.errors import DataLoss, RagmeshError
from services.config import ModelSettings, ServedModel
from tests.services.embedding import checkpoints
from tests.services.embedding.conftest import Nodes

TEXT = "red blueish green."


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 0xFF
    path.write_bytes(bytes(data))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def spoil(cache_dir: Path) -> None:
    for converted in cache_dir.glob("*.onnx"):
        flip(converted, 1_000)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return checkpoints.write(tmp_path / "other", seed=2)


@pytest.fixture
def settings(first: Path, other: Path) -> ModelSettings:
    return ModelSettings(directory=first, more=(ServedModel(id="other", source=str(other)),))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("model.safetensors", lambda path: flip(path, 3)),
        ("model.safetensors", lambda path: flip(path, 12)),
        ("model.safetensors", truncate),
        ("config.json", truncate),
        ("tokenizer.json", truncate),
    ],
    ids=["header's length", "header", "weights cut", "config cut", "tokenizer cut"],
)
async def test_a_corrupt_model_is_an_error_of_its_callers_alone(
    node: Nodes, settings: ModelSettings, other: Path, file: str, damage: Callable[[Path], None]
) -> None:
    damage(other / file)
    async with node(settings) as served:
        with pytest.raises(DataLoss) as lost:
            await served.embed("other", TEXT)
        assert str(other) in lost.value.metadata["path"]
        await served.embed("first", TEXT)
        assert sorted(await served.models()) == ["first", "other"]


async def test_a_repaired_model_is_loaded_again_but_not_tried_by_every_call(
    node: Nodes, settings: ModelSettings, other: Path
) -> None:
    weights = (other / "model.safetensors").read_bytes()
    truncate(other / "model.safetensors")
    async with node(settings) as served:
        first = await asyncio.gather(
            *(served.embed("other", TEXT) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(error, DataLoss) for error in first)
        (other / "model.safetensors").write_bytes(weights)
        with pytest.raises(DataLoss) as again:
            await served.embed("other", TEXT)
        pause_s = again.value.retry_after_s
        assert pause_s is not None
        assert 0 < pause_s <= 1.0
        await asyncio.sleep(pause_s + 0.01)
        await served.embed("other", TEXT)


async def test_each_failure_in_a_row_doubles_the_time_until_the_next_try(
    node: Nodes, settings: ModelSettings, other: Path
) -> None:
    truncate(other / "model.safetensors")
    async with node(settings) as served:
        for expected_s in (1.0, 2.0):
            with pytest.raises(DataLoss):
                await served.embed("other", TEXT)
            with pytest.raises(DataLoss) as early:
                await served.embed("other", TEXT)
            pause_s = early.value.retry_after_s or 0.0
            assert expected_s / 2 < pause_s <= expected_s
            await asyncio.sleep(pause_s + 0.01)


async def test_a_converted_file_that_went_bad_is_made_again(
    node: Nodes, settings: ModelSettings, cache_dir: Path
) -> None:
    async with node(settings) as served:
        before = await served.embed("other", TEXT)
    spoil(cache_dir)
    async with node(settings) as served:
        assert np.allclose(await served.embed("other", TEXT), before, atol=1e-6)


async def test_a_broken_default_model_keeps_the_node_from_starting_and_says_why(
    node: Nodes, first: Path
) -> None:
    truncate(first / "model.safetensors")
    begin_s = time.monotonic()
    with pytest.raises(RagmeshError, match=r"model\.safetensors"):
        async with node(ModelSettings(directory=first)):
            pass
    assert time.monotonic() - begin_s < 10
