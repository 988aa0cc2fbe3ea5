"""How fast a model runs on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from engine.errors import InvalidField
from services.commands.output import stderr

if TYPE_CHECKING:
    from engine.models.cross_encoder import CrossEncoder
    from engine.models.encoder import Encoder
    from engine.models.tokenize import Tokenized
    from services.commands.model_facts import Found

SHAPES = ((1, 16), (1, 128), (8, 128), (32, 32), (6, 256))
"""Texts and tokens of a batch: a query, a passage, and full batches of different lengths."""

SHAPE_S = 0.4
"""How long each is repeated."""

QUERY = "how does the immune system recognize viruses that it has met before?"
QUERIES = 50
MADE_UP_TEXTS, WORDS = 64, "red green blue and every color between them "


@dataclass(frozen=True, slots=True)
class Shape:
    """One batch shape: the median of its runs."""

    texts: int
    tokens: int
    ms: float
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class BenchReport:
    """`query_ms` is the median of one query, tokenizing included. `tokens_per_s` counts tokens of
    texts, not of padding, and so does not flatter a batch."""

    model: str
    provider: str
    precision: str
    threads: int
    shapes: tuple[Shape, ...]
    query_ms: float
    texts: int
    tokens: int
    tokens_per_s: float
    padding_share: float


def measure(found: Found, texts: Path | None) -> BenchReport:
    """Loads a model and runs it for some seconds. Raises what is wrong with it or the texts."""
    lines = _read(texts) if texts is not None else _made_up()
    directory = found.directory()
    with stderr().status(f"loading {found.spec.id}"):
        model = found.loader.load(found.spec, directory)
    with stderr().status(f"measuring {found.spec.id}"):
        longest = _tokenize(model, ["word " * model.tokens_max])[0]
        shapes = tuple(_shape(model, longest, *shape) for shape in SHAPES)
        query_ms = _median_ms(lambda: model.forward(_tokenize(model, [QUERY])), QUERIES)
        tokens, padded, elapsed_s = _mixed(model, _tokenize(model, lines))
    return BenchReport(
        model=found.spec.id,
        provider=model.provider,
        precision=model.fingerprint.precision,
        threads=found.loader.threads,
        shapes=shapes,
        query_ms=query_ms,
        texts=len(lines),
        tokens=tokens,
        tokens_per_s=tokens / elapsed_s,
        padding_share=1 - tokens / padded,
    )


def _read(file: Path) -> list[str]:
    try:
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidField(
            f"{file} cannot be read as text: {error}", field="texts", metadata={"path": str(file)}
        ) from error
    if not lines:
        raise InvalidField(
            f"{file} has no texts; put one on each line",
            field="texts",
            metadata={"path": str(file)},
        )
    return lines


def _made_up() -> list[str]:
    """Texts of 1 to 28 times WORDS, which is about 10 to 260 tokens, as mixed as abstracts are."""
    return [WORDS * (1 + number * 11 % 28) for number in range(MADE_UP_TEXTS)]


def _tokenize(model: Encoder | CrossEncoder, texts: Sequence[str]) -> list[Tokenized]:
    from engine.models.encoder import Encoder

    if isinstance(model, Encoder):
        return model.tokenize(texts, "passage", truncate=True)
    return [windows[0] for windows in model.windows("a query", texts)]


def _shape(model: Encoder | CrossEncoder, longest: Tokenized, count: int, tokens: int) -> Shape:
    cut = replace(longest, ids=longest.ids[:tokens])
    batch = [cut] * count
    ms = _median_ms(lambda: model.forward(batch), 3, SHAPE_S)
    return Shape(count, cut.tokens, ms, count * cut.tokens / ms * 1000)


def _median_ms(run: Callable[[], object], times: int, seconds: float = 0.0) -> float:
    """The median of at least `times` runs in at least `seconds`."""
    taken_s: list[float] = []
    while len(taken_s) < times or sum(taken_s) < seconds:
        begin_s = time.perf_counter()
        run()
        taken_s.append(time.perf_counter() - begin_s)
    return median(taken_s) * 1000


def _mixed(model: Encoder | CrossEncoder, items: Sequence[Tokenized]) -> tuple[int, int, float]:
    """Tokens, tokens with padding, and seconds of all items in batches of similar length."""
    from engine.schedule import Limits, in_batches

    counts = [item.tokens for item in items]
    padded = 0
    begin_s = time.perf_counter()
    for batch in in_batches(counts, Limits()):
        model.forward([items[number] for number in batch])
        padded += max(counts[number] for number in batch) * len(batch)
    return sum(counts), padded, time.perf_counter() - begin_s
