"""`python -m benchmarks.calibrate_answers`: the weights of the confidence of extractive answers
(`engine/answers/extractive.py`), from HotpotQA's sample and SciFact's training claims.

Each question is asked twice: over all passages, and over all but its own, where the right answer
is none. An answer is right if its first sentence is one of a passage that the question is about.
Weights are those of the largest likelihood, with a little ridge; both sets count the same. Nothing
here looks at SQuAD or at a test claim. Takes some ten minutes, most of them embedding.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data import folder_of, scifact
from benchmarks.metrics import area_under_curve
from engine.answers import extractive
from engine.answers.evidence import Passage
from engine.index.collection import CollectionIndex, IndexSettings
from engine.index.fusion import FusionMethod
from engine.index.query import Query
from engine.index.reranking import CANDIDATES_DEFAULT
from engine.index.stages import Staged, find, finish, rerank_by_sentences
from engine.index.view import View
from engine.index.words import Analyzer
from engine.models import default
from engine.models.encoder import Encoded, Encoder
from engine.models.model_dir import Kind
from engine.types import Hit, Matrix, Point

CONTEXT_PASSAGES = 13
"""What a context of 2,000 tokens holds."""

_RIDGE = 0.1
_STEPS = 30

Array = NDArray[np.float64]
Encode = Callable[[Sequence[str], Kind], Encoded]


@dataclass(frozen=True, slots=True)
class World:
    """Passages as an index, and questions with the numbers of the passages they are about."""

    view: View
    questions: Sequence[str]
    vectors: Matrix
    gold: Sequence[frozenset[str]]

    @classmethod
    def of(
        cls,
        passages: Sequence[str],
        questions: Sequence[str],
        gold: Sequence[frozenset[str]],
        encode: Encode,
    ) -> World:
        """Embedded by `encode`."""
        encoded = encode(passages, "passage")
        index = CollectionIndex(IndexSettings(encoded.vectors.shape[1]))
        rows = zip(passages, encoded.vectors, encoded.sentences, strict=True)
        points = [Point(str(n), v, text, sentences=s) for n, (text, v, s) in enumerate(rows)]
        index.apply(points, [], 1, "bulk")
        return cls(index.view, questions, encode(questions, "query").vectors, gold)

    def examples(self) -> tuple[Array, Array]:
        """Features of each answer, a row each, and whether it was right."""
        words = Analyzer("en").words
        features, right = [], []
        for question, vector, gold in zip(self.questions, self.vectors, self.gold, strict=True):
            for left_out in (frozenset[str](), gold):
                staged = Staged(
                    Query(vector=vector, text=question, limit=20, fusion=FusionMethod.SCORE),
                    rerank=CANDIDATES_DEFAULT,
                    exclude=left_out,
                )
                found = find(self.view, staged, 0.0, words)
                found = rerank_by_sentences(found, staged, vector, question, words) or found
                passages = [
                    Passage("", h.point.id, "", 0, h.point.text, _score(h), h.point.sentences)
                    for h in finish(found.hits, staged).hits[:CONTEXT_PASSAGES]
                ]
                measured = extractive.measure(question, vector, passages, sentences_max=2)
                if measured is not None:
                    features.append(measured.features)
                    right.append(measured.first.point_id in gold and not left_out)
        return np.array(features), np.array(right, np.float64)


def fitted(sets: Sequence[tuple[Array, Array]]) -> Array:
    """The weights, the constant first, by Newton's method; every set has the same weight."""
    rows = np.concatenate([features for features, _ in sets])
    labels = np.concatenate([right for _, right in sets])
    each = np.concatenate([np.full(len(right), 1 / len(right)) for _, right in sets])
    each *= len(labels) / len(sets)
    design = np.concatenate([np.ones((len(rows), 1)), rows], axis=1)
    found = np.zeros(design.shape[1])
    ridge = np.full(design.shape[1], _RIDGE)
    ridge[0] = 0.0
    for _ in range(_STEPS):
        chance = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (each * (labels - chance)) - ridge * found
        spread = each * chance * (1 - chance)
        curvature = (design * spread[:, None]).T @ design + np.diag(ridge)
        found = found + np.linalg.solve(curvature, gradient)
    return found


def hotpot() -> tuple[list[str], list[str], list[frozenset[str]]]:
    """Passages, questions, and the numbers of the passages they need. Raises DataMissing."""
    folder = folder_of("multihop-qa", "HotpotQA's sample")
    corpus = _read(folder / "hotpotqa_train_corpus.json.gz")
    place = {title: str(number) for number, title in enumerate(corpus)}
    asked = _read(folder / "hotpotqa_train.json.gz")
    gold = [frozenset(place[title] for title, _ in one["supporting_facts"]) for one in asked]
    return ["".join(said).strip() for said in corpus.values()], [q["question"] for q in asked], gold


def claims() -> tuple[list[str], list[str], list[frozenset[str]]]:
    """SciFact's abstracts and training claims, with the abstracts that bear on them."""
    data = scifact()
    place = {one.id: str(number) for number, one in enumerate(data.documents)}
    judged = data.qrels["train"]
    gold = [frozenset(place[document] for document in judged[claim]) for claim in judged]
    texts = [f"{one.title} {one.text}" for one in data.documents]
    return texts, [data.queries[claim] for claim in judged], gold


def report(names: Sequence[str], sets: Sequence[tuple[Array, Array]], weights: Array) -> None:
    """The weights, and for each set the area under the curve and what a bound of 0.25 keeps."""
    print("confidence_weights =", tuple(round(float(weight), 2) for weight in weights))
    for name, (features, right) in zip(names, sets, strict=True):
        chance = 1 / (1 + np.exp(-(weights[0] + features @ weights[1:])))
        good, bad = chance[right > 0], chance[right == 0]
        kept, let = float((good >= 0.25).mean()), float((bad >= 0.25).mean())
        area = area_under_curve(good, bad)
        print(f"{name}: area {area:.3f}, at 0.25 kept {kept:.3f} right, {let:.3f} wrong")


def main() -> None:
    """Embeds, asks, fits, prints."""
    encoder = Encoder.load(
        default.directory(), Path.home() / ".cache" / "ragmesh" / "models", threads=2
    )

    def encode(texts: Sequence[str], kind: Kind) -> Encoded:
        print(f"embedding {len(texts):,} texts", file=sys.stderr, flush=True)
        return encoder.embed(texts, kind, truncate=True, sentences=True)

    sets = [World.of(*data, encode).examples() for data in (hotpot(), claims())]
    report(("HotpotQA", "SciFact train"), sets, fitted(sets))


def _score(hit: Hit) -> float:
    return hit.score if hit.rerank_score is None else hit.rerank_score


def _read(path: Path) -> Any:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return json.load(lines)


if __name__ == "__main__":
    main()
