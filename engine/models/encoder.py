"""A loaded embedding model: texts in, vectors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine import schedule
from engine.errors import InvalidField, ModelTaskMismatch, ModelUnavailable
from engine.models import model_dir, providers
from engine.models.default import MODEL_ID
from engine.models.loading import Opened, open_model
from engine.models.model_dir import AS_THEY_SAY, Kind, ModelDir, Overrides
from engine.models.pool import normalize, pool, pool_sentences
from engine.models.precision import Asked
from engine.models.runner import Runner
from engine.models.tokenize import TextTokenizer, Tokenized
from engine.types import Fingerprint, Matrix, Sentences

_OUTPUTS_KNOWN = ("token_embeddings", "last_hidden_state")


@dataclass(frozen=True, slots=True)
class Encoded:
    """`vectors` is (texts, dimensions), contiguous, each row of norm 1.

    `sentences` has one entry a text where they were asked for, else it is empty.
    """

    vectors: Matrix
    sentences: tuple[Sentences, ...] = ()


class Encoder:
    """One model on one execution provider. Every method may be called from many threads.

    `name` is the model's id, `dimensions` the length of its vectors, `tokens_max` what it reads
    of a text (special tokens and prompt included), `provider` "cpu" or "cuda", `prompts` what is
    put before the texts of each kind, `fingerprint` the space that the vectors live in.
    """

    def __init__(self, name: str, opened: Opened) -> None:
        model = opened.model
        self.name = name
        self.dimensions = model.dimensions
        self.dimensions_offered = model.dimensions_offered
        self.tokens_max = model.tokens_max
        self.provider = opened.provider
        self.file = opened.file
        self.prompts: Mapping[Kind, str] = dict(model.prompts)
        self.fingerprint = model.fingerprint(opened.digits)
        self._pooling = model.pooling
        self._runner = Runner(opened, _token_output(opened.session, model))
        self._tokenizer = TextTokenizer(model)

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
    ) -> Encoder:
        """Load the Hugging Face directory `directory`, converting it in `cache_dir` if needed.

        `threads` is how many one run uses, `gpu_memory_bytes_max` bounds what it takes of a GPU
        (0: no bound). Takes 0.5 s for 90 MB, and 2 s more the first time.
        Raises ModelUnavailable, DataLoss, ProviderMissing, ModelTaskMismatch or InvalidField, each
        before anything is served.
        """
        model = model_dir.read(directory, overrides)
        if model.task != "embed":
            raise ModelTaskMismatch(
                f"{directory} is a cross-encoder: it scores pairs and has no vectors",
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

    def count_tokens(self, texts: Sequence[str], kind: Kind = "passage") -> list[int]:
        """The tokens of each text with its kind's prompt and the special tokens, uncut."""
        return self._tokenizer.count(texts, self._prompt(kind))

    def tokenize(
        self, texts: Sequence[str], kind: Kind, *, truncate: bool = False
    ) -> list[Tokenized]:
        """Each text's tokens, for `forward`.

        Raises TextTooLong unless `truncate`; InvalidField for another kind than "query" and
        "passage", and for a text that is not Unicode.
        """
        return self._tokenizer.tokenize(texts, self._prompt(kind), truncate=truncate)

    def forward(self, batch: Sequence[Tokenized], *, sentences: bool = False) -> Encoded:
        """One run over `batch`, padded to its longest, with the GIL released inside.

        A text's vector is the same in every batch, but for the last bits.
        """
        if not batch:
            return Encoded(np.empty((0, self.dimensions), np.float32))
        outputs = self.outputs(batch)
        vectors = self.vectors(outputs, batch)
        if not sentences:
            return Encoded(vectors)
        found = (pool_sentences(outputs[row], item) for row, item in enumerate(batch))
        return Encoded(vectors, tuple(found))

    def outputs(self, batch: Sequence[Tokenized]) -> NDArray[np.float32]:
        """Token outputs (texts, tokens, hidden) of one run; rows are padded at their ends."""
        return self._runner.run([item.ids for item in batch])

    def vectors(self, outputs: NDArray[np.float32], batch: Sequence[Tokenized]) -> Matrix:
        """The pooled, normalized vectors (texts, dimensions) of a run's outputs."""
        return pool(outputs, [item.tokens for item in batch], self._pooling)

    def windows(self, texts: Sequence[str], kind: Kind) -> list[list[Tokenized]]:
        """Each text in as many windows as it takes. Raises InvalidField as `tokenize`."""
        return self._tokenizer.windows(texts, self._prompt(kind))

    def check_dimensions(self, dimensions: int | None) -> int:
        """`dimensions`, or the full length for None. Raises InvalidField if it is not offered."""
        if dimensions is None or dimensions == self.dimensions:
            return self.dimensions
        if dimensions not in self.dimensions_offered:
            offered = _ranges(self.dimensions_offered)
            raise InvalidField(
                f"dimensions is {dimensions}; {self.name} offers {offered}: ask for one of these, "
                "or leave it out",
                field="dimensions",
                metadata={"dimensions": dimensions, "offered": offered, "model": self.name},
            )
        return dimensions

    def shorten(self, vectors: Matrix, dimensions: int | None) -> Matrix:
        """The first `dimensions` numbers of each row, normalized again (Matryoshka vectors)."""
        wanted = self.check_dimensions(dimensions)
        return vectors if wanted == self.dimensions else normalize(vectors[:, :wanted])

    def fingerprint_of(self, dimensions: int | None) -> Fingerprint:
        """The fingerprint of vectors shortened to `dimensions`."""
        return replace(self.fingerprint, dimensions=self.check_dimensions(dimensions))

    def embed(
        self,
        texts: Sequence[str],
        kind: Kind,
        *,
        truncate: bool = False,
        sentences: bool = False,
        dimensions: int | None = None,
        limits: schedule.Limits | None = None,
    ) -> Encoded:
        """Texts to vectors in their order, in batches of similar length, by this thread alone."""
        wanted = self.check_dimensions(dimensions)
        tokenized = self.tokenize(texts, kind, truncate=truncate)
        vectors = np.empty((len(texts), wanted), np.float32)
        found: dict[int, Sentences] = {}
        counts = [text.tokens for text in tokenized]
        for batch in schedule.in_batches(counts, limits or schedule.Limits()):
            encoded = self.forward([tokenized[i] for i in batch], sentences=sentences)
            vectors[batch] = self.shorten(encoded.vectors, wanted)
            found.update(zip(batch, encoded.sentences, strict=False))
        return Encoded(vectors, tuple(found[i] for i in range(len(texts))) if sentences else ())

    def _prompt(self, kind: Kind) -> str:
        if kind not in self.prompts:
            known = ", ".join(self.prompts)
            raise InvalidField(
                f"input_kind is {kind!r}; it must be one of {known}",
                field="input_kind",
                metadata={"input_kind": kind, "known": known},
            )
        return self.prompts[kind]


def _token_output(session: providers.Session, model: ModelDir) -> str:
    outputs = session.get_outputs()
    names = [str(output.name) for output in outputs]
    for known in _OUTPUTS_KNOWN:
        if known in names:
            return known
    for output in outputs:
        if len(output.shape) == 3:
            return str(output.name)
    raise ModelUnavailable(
        f"{model.weights} has only the outputs {', '.join(names)}; export it with the token "
        "output (batch, tokens, hidden), usually called last_hidden_state",
        metadata={"path": str(model.weights), "outputs": ", ".join(names)},
    )


def _ranges(numbers: frozenset[int]) -> str:
    """{64, 128, 384} as "64, 128 or 384", {1 … 384} as "1 to 384"."""
    ordered = sorted(numbers)
    if len(ordered) > 2 and len(ordered) == ordered[-1] - ordered[0] + 1:
        return f"{ordered[0]} to {ordered[-1]}"
    head = ", ".join(map(str, ordered[:-1]))
    return f"{head} or {ordered[-1]}" if head else str(ordered[-1])
