"""A loaded cross-encoder: query and passage read together, one score out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from engine.errors import ModelTaskMismatch
from engine.models import model_dir, providers
from engine.models.default import MODEL_ID
from engine.models.graph import LOGITS
from engine.models.loading import Opened, open_model
from engine.models.model_dir import AS_THEY_SAY, Overrides
from engine.models.pairs import PairTokenizer
from engine.models.precision import Asked
from engine.models.runner import Runner
from engine.models.tokenize import Tokenized


class CrossEncoder:
    """One model on one execution provider. Every method may be called from many threads.

    `tokens_max` is what it reads of query and passage together; `fingerprint` identifies model
    and precision.
    """

    dimensions = 0
    dimensions_offered: frozenset[int] = frozenset()

    def __init__(self, name: str, opened: Opened) -> None:
        model = opened.model
        self.name = name
        self.tokens_max = model.tokens_max
        self.provider = opened.provider
        self.file = opened.file
        self.fingerprint = model.fingerprint(opened.digits)
        self._runner = Runner(opened, LOGITS if not model.onnx else _only_output(opened))
        self._tokenizer = PairTokenizer(model)

    @classmethod
    def load(
        cls,
        directory: Path,
        cache_dir: Path,
        *,
        threads: int,
        provider: str = providers.AUTO,
        precision: Asked = "auto",
        name: str = MODEL_ID,
        overrides: Overrides = AS_THEY_SAY,
        gpu_memory_bytes_max: int = 0,
    ) -> CrossEncoder:
        """Load the Hugging Face directory `directory`, converting it in `cache_dir` if needed.

        Raises ModelUnavailable, DataLoss, ProviderMissing, ModelTaskMismatch or InvalidField.
        """
        model = model_dir.read(directory, overrides)
        if model.task != "rerank":
            raise ModelTaskMismatch(
                f"{directory} is no cross-encoder (a sequence classifier with one label)",
                metadata={"path": str(directory), "task": model.task},
            )
        opened = open_model(
            model,
            cache_dir,
            threads=threads,
            provider=provider,
            asked=precision,
            gpu_memory_bytes_max=gpu_memory_bytes_max,
        )
        return cls(name, opened)

    def fit_query(self, query: str, *, truncate: bool = False) -> str:
        """As `PairTokenizer.fit_query`."""
        return self._tokenizer.fit_query(query, truncate=truncate)

    def windows(self, query: str, passages: Sequence[str]) -> list[list[Tokenized]]:
        """As `PairTokenizer.windows`."""
        return self._tokenizer.windows(query, passages)

    def forward(self, batch: Sequence[Tokenized]) -> list[float]:
        """The logit of each pair, with the GIL released inside."""
        if not batch:
            return []
        types = [item.types for item in batch] if self._tokenizer.segments > 1 else []
        logits = self._runner.run([item.ids for item in batch], types)
        return [float(row[0]) for row in logits]


def _only_output(opened: Opened) -> str:
    return str(opened.session.get_outputs()[0].name)
