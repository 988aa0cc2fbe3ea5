"""One node with the embedding service alone, in a process of its own: no store, no gateway."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from services.config import ModelSettings, NodeSettings, Settings, to_environment
from services.local.process import launch_argv, log_tail

READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_SERVE = (sys.executable, "-P", "-m", "services.cli", "serve")


@dataclass(frozen=True, slots=True)
class EmbeddingNode:
    """Where it answers, `host:port` each."""

    address: str
    metrics: str

    def model_tokens(self) -> dict[str, float]:
        """What went through its models since it began: `text` and `padding`."""
        with urlopen(f"http://{self.metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        tokens = {"text": 0.0, "padding": 0.0}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == "ragmesh_model_tokens_total":
                    tokens[sample.labels["kind"]] += sample.value
        return tokens


@contextmanager
def embedding_node(cache_dir: Path, **models: Any) -> Iterator[EmbeddingNode]:
    """Serves until the context ends, or this thread does. `models` are fields of ModelSettings.

    Raises RuntimeError with the end of its log where it does not get to serve.
    """
    with tempfile.TemporaryDirectory(prefix="ragmesh-bench-") as name:
        folder = Path(name)
        settings = Settings(
            data_dir=folder,
            node=NodeSettings(services=("embedding",), listen="127.0.0.1:0"),
            models=ModelSettings(cache_dir=cache_dir, **models),
        )
        ready, log = folder / "ready", folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                launch_argv([*_SERVE, "--ready-file", str(ready)]),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **to_environment(settings)},
            )
        try:
            _wait(process, ready, log)
            address, metrics = ready.read_text().split()
            yield EmbeddingNode(address, metrics)
        finally:
            _stop(process)


def _wait(process: subprocess.Popen[bytes], ready: Path, log: Path) -> None:
    end_s = time.monotonic() + READY_TIMEOUT_S
    while not ready.is_file():
        if process.poll() is not None or time.monotonic() > end_s:
            raise RuntimeError("\n".join(("the node does not serve:", *log_tail(log))))
        time.sleep(_POLL_S)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
