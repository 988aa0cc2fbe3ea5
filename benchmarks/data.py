"""The data that suites run on: made here from a seed, evaluation sets, and the demo corpus."""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float32]

DATA_VARIABLE = "RAGMESH_DATA"
CORPUS = Path(__file__).parents[1] / "corpus"
_EXACT_STEP = 250


class DataMissing(Exception):
    """Data that is not in the repository; the message says where it comes from."""


@dataclass(frozen=True, slots=True)
class VectorSet:
    """Normalized rows. `exact` holds, for each query, the numbers of its 10 nearest points by
    cosine, found by scanning all of them."""

    points: Matrix
    queries: Matrix
    exact: NDArray[np.int64]


def clustered(
    count: int, queries: int, *, dimensions: int = 384, clusters: int = 500, seed: int = 0
) -> VectorSet:
    """Points around `clusters` random centers, like texts around topics: each is its center,
    drawn from a standard normal distribution, plus 0.6 of another draw. Queries are made alike.
    """
    random = np.random.default_rng(seed)
    centers = random.normal(size=(clusters, dimensions))

    def draw(number: int) -> Matrix:
        rows = centers[random.integers(0, clusters, number)]
        rows = rows + 0.6 * random.normal(size=(number, dimensions))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        return np.asarray(rows / lengths, np.float32)

    points, asked = draw(count), draw(queries)
    return VectorSet(points, asked, nearest(points, asked, 10))


def nearest(points: Matrix, queries: Matrix, k: int) -> NDArray[np.int64]:
    """The numbers of the `k` nearest points of each query by inner product, the best first."""
    found = []
    for start in range(0, len(queries), _EXACT_STEP):
        scores = queries[start : start + _EXACT_STEP] @ points.T
        best = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable")
        found.append(np.take_along_axis(best, order, 1))
    return np.concatenate(found).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Text:
    """A text with its id and title."""

    id: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class RetrievalSet:
    """A BEIR data set: documents, queries by id, and judgments by split, query and document."""

    documents: list[Text]
    queries: dict[str, str]
    qrels: dict[str, dict[str, dict[str, int]]]

    def part(self, *, documents: int, queries: int) -> RetrievalSet:
        """The first judged queries of each split with their documents, filled up with others."""
        qrels = {
            split: dict(list(judged.items())[:queries]) for split, judged in self.qrels.items()
        }
        needed = {
            document for judged in qrels.values() for one in judged.values() for document in one
        }
        ordered = sorted(self.documents, key=lambda one: one.id not in needed)
        return RetrievalSet(ordered[: max(documents, len(needed))], self.queries, qrels)


def scifact() -> RetrievalSet:
    """SciFact in BEIR's form: 5,183 abstracts, 300 test and 809 train queries. Raises DataMissing.

    Wadden et al., "Fact or Fiction: Verifying Scientific Claims", EMNLP 2020 (abstracts ODC-By
    1.0, claims CC BY 4.0).
    """
    folder = Path(os.environ.get(DATA_VARIABLE) or ".") / "beir-scifact"
    if not os.environ.get(DATA_VARIABLE) or not folder.is_dir():
        given = os.environ.get(DATA_VARIABLE) or "not set"
        raise DataMissing(
            f"SciFact is needed in $RAGMESH_DATA/beir-scifact; {DATA_VARIABLE} is {given}. Get "
            "scifact.zip of the BEIR benchmark (https://github.com/beir-cellar/beir, section "
            "'Available Datasets'), unpack it there, rename the folder to beir-scifact, and "
            "compress its corpus with `gzip corpus.jsonl`."
        )
    return read_beir(folder)


def cranfield() -> RetrievalSet:
    """Cranfield: 1,400 abstracts of aerodynamics, 225 queries with graded judgments, of which the
    empty abstracts are left out. Raises DataMissing.

    Cleverdon, "The Cranfield tests on index language devices", Aslib Proceedings 19(6), 1967.
    """
    folder = folder_of("classic-ir/cranfield", "Cranfield in BEIR's form, its corpus gzipped")
    data = read_beir(folder)
    kept = [one for one in data.documents if one.text.strip()]
    return RetrievalSet(kept, data.queries, data.qrels)


def squad(queries: int = 1_000) -> RetrievalSet:
    """SQuAD v1.1's development paragraphs, each relevant to the questions asked about it: 2,067
    of them, and some of the 10,570 questions, drawn from seed 1. Raises DataMissing.

    Rajpurkar et al., "SQuAD: 100,000+ Questions for Machine Comprehension of Text", EMNLP 2016
    (CC BY-SA 4.0).
    """
    what = "SQuAD v1.1 as corpus.jsonl.gz, queries.jsonl.gz and qrels_test.tsv.gz"
    folder = folder_of("squad/v1.1-retrieval", what)
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        asked = {one["_id"]: one["text"] for one in map(json.loads, lines)}
    with gzip.open(folder / "qrels_test.tsv.gz", "rt", encoding="utf-8", newline="") as rows:
        judged = _qrels_of(rows)
    names = list(judged)
    chosen = np.random.default_rng(1).permutation(len(names))[:queries]
    kept = {names[i]: judged[names[i]] for i in sorted(chosen.tolist())}
    return RetrievalSet(_read_texts(folder / "corpus.jsonl.gz"), asked, {"test": kept})


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its answers, any of which is right, and the text that has them."""

    text: str
    answers: tuple[str, ...]
    document: str
    answer_start: int


def squad_questions(count: int = 1_000) -> tuple[list[Text], list[Question]]:
    """SQuAD v1.1's development paragraphs, and `count` of its 10,570 questions, drawn by Python's
    `random.seed(1)`. Raises DataMissing."""
    what = "SQuAD v1.1 as corpus.jsonl.gz, queries.jsonl.gz and qrels_test.tsv.gz"
    folder = folder_of("squad/v1.1-retrieval", what)
    with gzip.open(folder / "qrels_test.tsv.gz", "rt", encoding="utf-8", newline="") as rows:
        judged = _qrels_of(rows)
    with gzip.open(folder / "queries.jsonl.gz", "rt", encoding="utf-8") as lines:
        asked = [
            Question(
                one["text"],
                tuple(one["answers"]),
                next(iter(judged[one["_id"]])),
                one["answer_start"][0],
            )
            for one in map(json.loads, lines)
        ]
    return _read_texts(folder / "corpus.jsonl.gz"), Random(1).sample(asked, count)


def injections(split: str) -> list[str]:
    """BIPIA's attacks on text and on code, "train" or "test". Raises DataMissing.

    Yi et al., "Benchmarking and Defending Against Indirect Prompt Injection Attacks on Large
    Language Models", KDD 2025 (MIT).
    """
    folder = folder_of("prompt-injection/bipia", "BIPIA's attacks")
    found: list[str] = []
    for kind in ("text", "code"):
        attacks = json.loads((folder / f"{kind}_attack_{split}.json").read_text("utf-8"))
        found += [text for of_kind in attacks.values() for text in of_kind]
    return found


def folder_of(name: str, what: str) -> Path:
    """A data set's folder. Raises DataMissing with `what` belongs there."""
    given = os.environ.get(DATA_VARIABLE)
    folder = Path(given or ".") / name
    if not given or not folder.is_dir():
        raise DataMissing(
            f"{what} is needed in ${DATA_VARIABLE}/{name}; {DATA_VARIABLE} is {given or 'not set'}."
        )
    return folder


def read_beir(folder: Path) -> RetrievalSet:
    """`corpus.jsonl`, `queries.jsonl` (either may be compressed, with `.gz` behind it) and
    `qrels/*.tsv` of a folder. Documents without a word are left out; titles may be missing.
    Raises DataMissing that names the file, and the line, that is not there or cannot be read.
    """
    documents = [
        Text(one["_id"], one.get("title") or "", one["text"])
        for one in _records(folder, "corpus.jsonl", ("_id", "text"))
    ]
    asked = {one["_id"]: one["text"] for one in _records(folder, "queries.jsonl", ("_id", "text"))}
    qrels = {path.stem: _read_qrels(path) for path in sorted((folder / "qrels").glob("*.tsv"))}
    if not qrels:
        raise DataMissing(f"{folder / 'qrels'} has no judgments, such as test.tsv")
    for split, judged in qrels.items():
        unknown = next((query for query in judged if query not in asked), None)
        if unknown is not None:
            raise DataMissing(
                f"{folder}: qrels/{split}.tsv judges query {unknown!r}, which is none"
            )
    kept = [one for one in documents if one.title.strip() or one.text.strip()]
    return RetrievalSet(kept, asked, qrels)


def _records(folder: Path, name: str, keys: Sequence[str]) -> list[dict[str, Any]]:
    """Objects, a line each, that have texts under all keys."""
    path = next((one for one in (folder / name, folder / f"{name}.gz") if one.is_file()), None)
    if path is None:
        raise DataMissing(f"{folder} has no {name}, and no {name}.gz: is it in BEIR's layout?")
    found: list[dict[str, Any]] = []
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                one = json.loads(line)
                if not all(isinstance(one[key], str) for key in keys):
                    raise ValueError(f"{' and '.join(keys)} are texts")
                found.append(one)
    except (ValueError, KeyError, TypeError, EOFError, OSError) as error:
        told = f"{type(error).__name__}: {error}"
        raise DataMissing(f"{path} cannot be read after line {len(found)}: {told}") from error
    return found


def demo_texts() -> list[Text]:
    """The abstracts of the demo's corpus."""
    return _read_texts(CORPUS / "scifact.jsonl.gz")


def demo_files() -> list[Path]:
    """The other documents of the demo's corpus; a Markdown source of a PDF is left out."""
    files = sorted((CORPUS / "files").iterdir())
    return [one for one in files if one.suffix != ".md" or one.with_suffix(".pdf") not in files]


def demo_questions() -> list[dict[str, Any]]:
    """The demo's questions, each with the `documents` that answer it (none for some)."""
    questions: list[dict[str, Any]] = json.loads((CORPUS / "questions.json").read_text())[
        "questions"
    ]
    return questions


def _read_texts(path: Path) -> list[Text]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [Text(one["_id"], one["title"], one["text"]) for one in map(json.loads, lines)]


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            judged = _qrels_of(lines)
        if not judged:
            raise ValueError("no judgment")
        return judged
    except (ValueError, KeyError, TypeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise DataMissing(
            f"{path} cannot be read ({told}): its columns are query-id, corpus-id and score"
        ) from error


def _qrels_of(lines: Iterable[str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for row in csv.DictReader(lines, delimiter="\t"):
        qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return qrels
