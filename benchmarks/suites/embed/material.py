"""The texts of the suite `embed`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.data import scifact
from engine.models import default, model_dir
from engine.models.tokenize import TextTokenizer

_SENTENCE = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Material:
    """SciFact in an order drawn from seed 0. `abstracts` are title, space, text; `claims` test
    queries, then train queries; `mixed` has abstracts, titles and single sentences, a third each.
    `tokenizer` counts for every side alike."""

    abstracts: Sequence[str]
    claims: Sequence[str]
    mixed: Sequence[str]
    tokenizer: TextTokenizer

    def tokens(self, texts: Sequence[str]) -> list[int]:
        """What the model reads of each text: at most 256, special tokens included."""
        most = self.tokenizer.tokens_max
        return [min(count, most) for count in self.tokenizer.count(texts)]

    def slice(self, number: int, count: int) -> list[str]:
        """`count` abstracts for round `number`, others than those of other rounds, counted
        around."""
        start = number * count
        return [self.abstracts[i % len(self.abstracts)] for i in range(start, start + count)]


def read_material() -> Material:
    """Raises DataMissing, ModelUnavailable."""
    data = scifact()
    order = np.random.default_rng(0).permutation(len(data.documents))
    documents = [data.documents[i] for i in order]
    queries = [data.queries[id] for split in ("test", "train") for id in data.qrels[split]]
    mixed = []
    for number, one in enumerate(documents):
        sentences = _SENTENCE.split(one.text)
        choices = (f"{one.title} {one.text}", one.title, sentences[number % len(sentences)])
        mixed.append(choices[number % 3])
    return Material(
        [f"{one.title} {one.text}" for one in documents],
        list(dict.fromkeys(queries)),
        mixed,
        TextTokenizer(model_dir.read(default.directory())),
    )
