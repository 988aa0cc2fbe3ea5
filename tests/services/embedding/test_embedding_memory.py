"""Models within a budget: they take turns, those in use stay, and what cannot fit is told so."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from engine.errors import ModelMemoryFull
from engine.models.encoder import Encoder
from engine.types import Vector
from services.config import ModelSettings, ServedModel
from services.rpc import machine
from tests.services.embedding import checkpoints
from tests.services.embedding.conftest import Nodes
from tests.services.embedding.embedding_node import EmbeddingNode

TEXT = "red blueish green."
MODEL_BYTES = 1_100_000
"""More than one of these checkpoints takes, and less than one and a half."""


@pytest.fixture
def three(first: Path, tmp_path: Path) -> tuple[Path, Path, Path]:
    return (
        first,
        checkpoints.write(tmp_path / "red", seed=2),
        checkpoints.write(tmp_path / "blue", seed=3),
    )


def settings(three: tuple[Path, Path, Path], memory_bytes_max: int) -> ModelSettings:
    return ModelSettings(
        directory=three[0],
        more=tuple(ServedModel(id=path.name, source=str(path)) for path in three[1:]),
        memory_bytes_max=memory_bytes_max,
        batch_padded_tokens_max=1_536,
    )


async def in_memory(served: EmbeddingNode) -> set[str]:
    return {name for name, model in (await served.models()).items() if model.loaded}


async def persistently(served: EmbeddingNode, model: str) -> Vector:
    """As a client does it: comes back when it is told to, here sooner."""
    while True:
        try:
            return await served.embed(model, TEXT)
        except ModelMemoryFull as full:
            if full.retry_after_s is None:
                raise
            await asyncio.sleep(0.01)


async def test_the_longest_unused_model_makes_room_and_the_default_one_never(
    node: Nodes, three: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    fourth = checkpoints.write(tmp_path / "green", seed=4)
    asked = settings(three, 3 * MODEL_BYTES)
    more = (*asked.more, ServedModel(id="green", source=str(fourth)))
    async with node(asked.model_copy(update={"more": more})) as served:
        await served.embed("red", TEXT)
        await served.embed("blue", TEXT)
        assert await in_memory(served) == {"first", "red", "blue"}
        await served.embed("red", TEXT)
        await served.embed("green", TEXT)
        assert await in_memory(served) == {"first", "red", "green"}


async def test_two_models_that_take_turns_under_load_answer_everybody_correctly(
    node: Nodes, three: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    expected = {
        path.name: Encoder.load(path, tmp_path / "alone", threads=1).embed([TEXT], "passage")
        for path in three
    }
    async with node(settings(three, 2 * MODEL_BYTES)) as served:
        names = [path.name for path in three] * 12
        async with asyncio.timeout(60):
            vectors = await asyncio.gather(*(persistently(served, name) for name in names))
        assert "first" in await in_memory(served)
        assert len(await in_memory(served)) == 2
    for name, vector in zip(names, vectors, strict=True):
        assert np.allclose(vector, expected[name].vectors[0], atol=1e-5)


async def test_a_model_in_use_stays_and_the_next_is_told_when_to_come_back(
    node: Nodes, three: tuple[Path, Path, Path]
) -> None:
    async with node(settings(three, 2 * MODEL_BYTES)) as served:
        async with served.servicer.catalog.using("red"):
            with pytest.raises(ModelMemoryFull) as full:
                await served.embed("blue", TEXT)
            assert full.value.retry_after_s
            await served.embed("red", TEXT)
        await served.embed("blue", TEXT)
        assert await in_memory(served) == {"first", "blue"}


async def test_a_model_that_left_takes_no_memory(
    node: Nodes, three: tuple[Path, Path, Path]
) -> None:
    async with node(settings(three, 2 * MODEL_BYTES)) as served:
        async with served.servicer.catalog.using("red") as red:
            session = weakref.ref(red.model)
        del red
        await served.embed("blue", TEXT)
        gc.collect()
        assert session() is None


async def test_a_model_that_never_fits_says_which_setting_to_raise(
    node: Nodes, three: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    large = checkpoints.write(tmp_path / "large", seed=4, vocabulary=100_000)
    asked = settings(three, 3 * MODEL_BYTES)
    more = (*asked.more, ServedModel(id="large", source=str(large)))
    async with node(asked.model_copy(update={"more": more})) as served:
        await served.embed("red", TEXT)
        with pytest.raises(ModelMemoryFull, match=r"models\.memory_bytes_max") as full:
            await served.embed("large", TEXT)
        assert full.value.retry_after_s is None
        assert full.value.metadata["memory_bytes_max"] == str(3 * MODEL_BYTES)
        assert await in_memory(served) == {"first", "red"}, "nobody leaves for nothing"


def test_the_budget_is_half_of_what_the_process_may_use(tmp_path: Path) -> None:
    whole = machine.available(tmp_path / "no cgroups")
    assert machine.budget(0) <= whole // 2
    assert machine.budget(12_345) == 12_345
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1048576\n")
    assert machine.available(tmp_path) == 1048576
