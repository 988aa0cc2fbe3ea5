"""Which execution provider runs a model, and the onnxruntime session that does.

The only file that imports onnxruntime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from engine.errors import DataLoss, InvalidField, ProviderMissing

PROVIDERS: Mapping[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
"""Our name for each provider, and onnxruntime's."""

AUTO = "auto"

THREADS_MAX = 1024

_SLOWER = ["SkipLayerNormFusion"]
"""An addition and a LayerNormalization are faster apart: 11 % of an int8 run (graph.py)."""

_INSTALL = {
    "cpu": "install onnxruntime",
    "cuda": "install onnxruntime-gpu in place of onnxruntime, with CUDA and cuDNN",
}


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`. `run` is thread-safe and holds no GIL."""

    def run(self, outputs: Sequence[str] | None, feed: Mapping[str, Any]) -> list[Any]: ...
    def get_inputs(self) -> list[Any]: ...
    def get_outputs(self) -> list[Any]: ...
    def get_providers(self) -> list[str]: ...
    def io_binding(self) -> Any: ...
    def run_with_iobinding(self, binding: Any) -> None: ...


def offered() -> tuple[str, ...]:
    """Our names of the providers that the installed onnxruntime was built with."""
    available = onnxruntime.get_available_providers()
    return tuple(name for name, theirs in PROVIDERS.items() if theirs in available)


def choose(asked: str, available: Sequence[str]) -> str:
    """The provider to run on: "auto" is CUDA where it is among `available`, else the CPU.

    Raises InvalidField for an unknown name, ProviderMissing for one that is not `available`.
    """
    if asked == AUTO:
        return "cuda" if "cuda" in available else "cpu"
    if asked not in PROVIDERS:
        known = ", ".join((AUTO, *PROVIDERS))
        raise InvalidField(
            f"provider {asked!r} is unknown; choose one of {known}",
            field="provider",
            metadata={"provider": asked, "known": known},
        )
    if asked not in available:
        raise _missing(asked, available)
    return asked


def open_session(
    model: Path, provider: str, threads: int, gpu_memory_bytes_max: int = 0
) -> Session:
    """A session on exactly `provider` ("cpu" or "cuda"), with `threads` threads per operator.

    `gpu_memory_bytes_max` bounds the arena of activations and weights on a GPU; 0 for no bound.

    Raises ProviderMissing where onnxruntime would have fallen back to another provider (it does
    so silently when a CUDA library is missing), DataLoss where the file is no model, and
    InvalidField for a thread count outside 1 to THREADS_MAX.
    """
    if not 1 <= threads <= THREADS_MAX:
        raise InvalidField(
            f"threads is {threads}; give 1 to {THREADS_MAX}, the cores of this process",
            field="threads",
            metadata={"threads": threads, "threads_max": THREADS_MAX},
        )
    try:
        session: Session = onnxruntime.InferenceSession(
            str(model),
            _options(threads),
            providers=[_with_options(provider, gpu_memory_bytes_max)],
            disabled_optimizers=_SLOWER if provider == "cpu" else [],
        )
    except Exception as error:
        # onnxruntime raises its own classes for a damaged file and RuntimeError for a provider.
        if provider != "cpu":
            raise _missing(provider, offered()) from error
        raise DataLoss(
            f"{model} cannot be loaded by onnxruntime ({error}); copy the model again",
            metadata={"path": str(model), "error": str(error)},
        ) from error
    if session.get_providers()[0] != PROVIDERS[provider]:
        raise _missing(provider, offered())
    return session


def run_bound(
    session: Session, output: str, feed: Mapping[str, NDArray[Any]], device: str
) -> NDArray[np.float32]:
    """One run with inputs put on `device` ("cuda" or "cpu") once and the output fetched once.

    A plain `run` on a GPU leaves both copies to onnxruntime, which waits for each.
    """
    binding = session.io_binding()
    for name, array in feed.items():
        value = onnxruntime.OrtValue.ortvalue_from_numpy(array, device, 0)
        binding.bind_ortvalue_input(name, value)
    binding.bind_output(output, device, 0)
    session.run_with_iobinding(binding)
    found: NDArray[np.float32] = binding.copy_outputs_to_cpu()[0]
    return found


def _options(threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    # Spinning threads take the cores from the index, PostgreSQL and Envoy on the same machine:
    # three models took 160 ms instead of 77 ms on 2 cores (onnxruntime issue 22967).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Measured with all-MiniLM-L6-v2 on 2 cores and mixed batches of at most 1,536 padded tokens:
    # with the arena the process peaks at 225 MB, without it at 404 MB, at the same speed (and
    # 5 to 8 % slower without it at 8 texts of 256). The arena keeps its largest shape, which the
    # budget of padded tokens in engine/schedule bounds. Memory patterns are kept for every
    # shape seen, so they are off: 248 MB with them.
    options.enable_cpu_mem_arena = True
    options.enable_mem_pattern = False
    # Errors reach the caller as exceptions; warnings about a provider that falls back become
    # ProviderMissing. 3 is ERROR.
    options.log_severity_level = 3
    return options


def _with_options(provider: str, gpu_memory_bytes_max: int) -> Any:
    if provider != "cuda":
        return PROVIDERS[provider]
    # The default doubles the arena at each growth and searches convolutions that are not here.
    options = {"arena_extend_strategy": "kSameAsRequested", "cudnn_conv_algo_search": "HEURISTIC"}
    if gpu_memory_bytes_max:
        options["gpu_mem_limit"] = str(gpu_memory_bytes_max)
    return (PROVIDERS[provider], options)


def _missing(asked: str, available: Sequence[str]) -> ProviderMissing:
    names = ", ".join(available)
    return ProviderMissing(
        f"the execution provider {asked!r} cannot be used: onnxruntime {onnxruntime.__version__} "
        f"offers {names} here; {_INSTALL[asked]}, or choose one that is offered",
        field="provider",
        metadata={
            "provider": asked,
            "offered": names,
            "onnxruntime": onnxruntime.__version__,
            "install": _INSTALL[asked],
        },
    )
