"""A model runs on the provider that was asked for, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import InvalidField, ProviderMissing
from engine.models import convert, model_dir, providers
from engine.models.encoder import Encoder

TinyModel = Callable[..., Path]


def test_auto_takes_cuda_where_it_is_offered_and_else_the_cpu() -> None:
    assert providers.choose("auto", ["cpu", "cuda"]) == "cuda"
    assert providers.choose("auto", ["cpu"]) == "cpu"
    assert providers.choose("cpu", ["cpu", "cuda"]) == "cpu"


def test_the_provider_in_use_is_reported(encoder: Encoder) -> None:
    assert encoder.provider == "cpu"
    assert "cpu" in providers.offered()


def test_a_missing_provider_is_an_error_that_says_what_is_there_and_what_to_install() -> None:
    with pytest.raises(ProviderMissing) as caught:
        providers.choose("cuda", ["cpu"])
    assert caught.value.metadata["offered"] == "cpu"
    assert "offers cpu here" in caught.value.message
    assert "onnxruntime-gpu" in caught.value.message


def test_an_unknown_provider_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidField, match="auto, cpu, cuda"):
        providers.choose("tpu", ["cpu", "cuda"])


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_session_never_falls_back_in_silence(tiny_model: TinyModel, tmp_path: Path) -> None:
    """onnxruntime itself goes on with the CPU when CUDA cannot be used, and only logs it.

    Where CUDA works the session must really be on it.
    """
    file = convert.onnx_file(model_dir.read(tiny_model()), tmp_path / "cache")
    try:
        session = providers.open_session(file, "cuda", 1)
    except ProviderMissing as error:
        assert error.metadata["provider"] == "cuda"  # noqa: PT017 - either outcome is right
    else:
        assert session.get_providers()[0] == "CUDAExecutionProvider"


@pytest.mark.parametrize("threads", [0, -1, providers.THREADS_MAX + 1])
def test_a_thread_count_out_of_range_is_refused(
    tiny_model: TinyModel, tmp_path: Path, threads: int
) -> None:
    with pytest.raises(InvalidField, match="threads"):
        Encoder.load(tiny_model(), tmp_path / "cache", threads=threads, provider="cpu")
