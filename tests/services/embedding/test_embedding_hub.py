"""Models from a hub: only what is needed, compared with what was announced, and once for all."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from engine.errors import DataLoss, InvalidField, ModelUnavailable, NodeDraining
from engine.models.encoder import Encoder
from services.config import ModelSettings, ServedModel
from services.embedding import hub, specs
from services.embedding.hub import HubModel, Progress
from tests.services.embedding import checkpoints, hub_server
from tests.services.embedding.conftest import Nodes
from tests.services.embedding.hub_server import COMMIT, REPO, Hub

MODEL = HubModel(REPO)
UNWANTED = {
    "pytorch_model.bin": b"\x80\x04 a pickle",
    "onnx/model.onnx": b"not needed beside safetensors of a family that we convert",
    "README.md": b"# Red",
    "tf_model.h5": b"",
}


@pytest.fixture
def upstream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with one model, and what else lies in its repository."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Small pieces for a small model: what comes of one that breaks off is kept from there.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1_000)
    with hub_server.serving(checkpoints.write(tmp_path / "upstream", seed=5), UNWANTED) as served:
        yield served


def fetch(upstream: Hub, cache_dir: Path, model: HubModel = MODEL) -> Path:
    return hub.fetch(model, cache_dir, lambda _: None, upstream.url)


def test_a_fetched_model_runs_and_nothing_unneeded_was_downloaded(
    upstream: Hub, tmp_path: Path
) -> None:
    said: list[Progress] = []
    directory = hub.fetch(MODEL, tmp_path / "hub", said.append, upstream.url)
    Encoder.load(directory, tmp_path / "cache", threads=1).embed(["red green"], "passage")
    assert sorted(upstream.downloads()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [p.done_bytes for p in said] == sorted(p.done_bytes for p in said)
    total = sum(len(upstream.files[name]) for name in upstream.downloads())
    assert (said[-1].done_bytes, said[-1].total_bytes) == (total, total)


def test_a_model_that_was_fetched_needs_no_network_and_does_not_change(
    upstream: Hub, tmp_path: Path
) -> None:
    first = fetch(upstream, tmp_path / "hub")
    before = len(upstream.asked)
    upstream.files["config.json"] = b"{}"
    assert fetch(upstream, tmp_path / "hub") == first
    assert len(upstream.asked) == before
    assert hub.find(MODEL, tmp_path / "hub") == first
    assert hub.find(HubModel(REPO, COMMIT), tmp_path / "hub") is None


def test_a_revision_can_be_named(upstream: Hub, tmp_path: Path) -> None:
    directory = fetch(upstream, tmp_path / "hub", HubModel(REPO, COMMIT))
    assert (directory / "config.json").is_file()
    with pytest.raises(ModelUnavailable, match="no model"):
        fetch(upstream, tmp_path / "hub", HubModel(REPO, "no-such-branch"))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_what_was_announced_is_refused_and_thrown_away(
    upstream: Hub, tmp_path: Path, name: str
) -> None:
    upstream.altered.add(name)
    with pytest.raises(DataLoss) as lost:
        fetch(upstream, tmp_path / "hub")
    assert lost.value.metadata["file"] == name
    assert hub.find(MODEL, tmp_path / "hub") is None
    upstream.altered.clear()
    assert fetch(upstream, tmp_path / "hub").is_dir()


def test_a_download_that_was_stopped_goes_on_where_it_was(upstream: Hub, tmp_path: Path) -> None:
    def stop_in_the_middle(progress: Progress) -> None:
        if progress.file == "model.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub.fetch(MODEL, tmp_path / "hub", stop_in_the_middle, upstream.url)
    assert hub.find(MODEL, tmp_path / "hub") is None
    directory = fetch(upstream, tmp_path / "hub")
    sent = (directory / "model.safetensors").read_bytes()
    assert sent == upstream.files["model.safetensors"]
    assert upstream.downloads().count("tokenizer.json") == 1


def test_a_connection_that_breaks_in_a_file_is_taken_up_again(
    upstream: Hub, tmp_path: Path
) -> None:
    upstream.cut["model.safetensors"] = 1
    directory = fetch(upstream, tmp_path / "hub")
    assert upstream.downloads().count("model.safetensors") == 2
    sent = (directory / "model.safetensors").read_bytes()
    assert sent == upstream.files["model.safetensors"]


def test_a_connection_that_keeps_breaking_is_an_error(upstream: Hub, tmp_path: Path) -> None:
    upstream.cut["config.json"] = 100
    with pytest.raises(ModelUnavailable, match="hub did not give it"):
        fetch(upstream, tmp_path / "hub")
    assert hub.find(MODEL, tmp_path / "hub") is None


def test_without_a_hub_the_error_comes_soon_and_says_what_else_to_do(tmp_path: Path) -> None:
    begin_s = time.monotonic()
    with pytest.raises(ModelUnavailable) as refused:
        hub.fetch(MODEL, tmp_path / "hub", lambda _: None, "http://127.0.0.1:9")
    assert time.monotonic() - begin_s < 10
    for word in ("HTTPS_PROXY", "HF_ENDPOINT", "HF_HUB_OFFLINE", "directory"):
        assert word in refused.value.message


def test_a_model_that_the_hub_does_not_have_is_no_network_error(
    upstream: Hub, tmp_path: Path
) -> None:
    with pytest.raises(ModelUnavailable, match="HF_TOKEN"):
        fetch(upstream, tmp_path / "hub", HubModel("tiny/absent"))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_repository_without_what_a_model_needs_says_what_is_missing(
    upstream: Hub, tmp_path: Path, name: str
) -> None:
    del upstream.files[name]
    del upstream.files["onnx/model.onnx"]
    with pytest.raises(ModelUnavailable, match=name):
        fetch(upstream, tmp_path / "hub")


def test_a_source_is_a_directory_where_there_is_one_and_else_an_id_of_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert specs.parse("org/name") == HubModel("org/name")
    assert specs.parse("org/name@v1.5") == HubModel("org/name", "v1.5")
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert specs.parse("org/name") == Path("org/name")
    assert specs.parse("/no/such/place") == Path("/no/such/place")
    assert specs.id_of(HubModel("intfloat/E5_small.v2")) == "e5-small-v2"
    assert specs.id_of(Path("/models/Überall/")) == "berall"


def test_an_id_that_the_hub_cannot_have_is_refused_before_it_is_asked(tmp_path: Path) -> None:
    with pytest.raises(InvalidField):
        hub.fetch(HubModel("a..b/c"), tmp_path, lambda _: None, "http://127.0.0.1:9")


@pytest.fixture
def usual(upstream: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub that is asked where nobody names another."""
    monkeypatch.setattr(constants, "ENDPOINT", upstream.url)
    template = upstream.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    return upstream


async def test_a_node_fetches_a_model_of_the_hub_when_it_is_first_asked_for(
    node: Nodes, first: Path, usual: Hub
) -> None:
    settings = ModelSettings(directory=first, more=(ServedModel(id="red", source=REPO),))
    async with node(settings) as served:
        shown = await served.model("red")
        assert (shown.loaded, shown.dimensions) == (False, 0)
        assert not usual.asked
        await served.embed("red", "red green")
        shown = await served.model("red")
        assert (shown.loaded, shown.dimensions) == (True, 8)


async def test_the_default_model_may_come_from_the_hub(node: Nodes, usual: Hub) -> None:
    async with node(ModelSettings(hub_id=REPO)) as served:
        assert sorted(await served.models()) == ["red-model"]
        await served.embed("default", "red green")


async def test_a_download_ends_when_the_node_stops(
    node: Nodes, first: Path, usual: Hub, cache_dir: Path
) -> None:
    settings = ModelSettings(directory=first, more=(ServedModel(id="red", source=REPO),))
    async with node(settings) as served:
        usual.pause_s = 0.3  # before each answer
        waiting = asyncio.create_task(served.embed("red", "red green"))
        while not usual.asked:
            await asyncio.sleep(0.01)
        await served.servicer.close()
        with pytest.raises(NodeDraining):
            await waiting
    assert hub.find(MODEL, cache_dir / "hub") is None
    asked = len(usual.asked)
    await asyncio.sleep(1.0)
    assert len(usual.asked) <= asked + 2, "the file that was on its way, and no further one"
