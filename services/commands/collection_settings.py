"""The settings of a collection as options, and as the client takes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, TypeVar

import typer

if TYPE_CHECKING:
    from ragmesh import Chunking, CollectionLimits, HnswSettings, RecallSettings

T = TypeVar("T")

_NODE = "; 0 for what the node says."

Model: TypeAlias = Annotated[
    str, typer.Option("--model", help="Embedding model; empty for the server's default.")
]
Dimensions: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Of vectors of your own; 0 takes an embedding model.")
]
Metric: TypeAlias = Annotated[
    Literal["cosine", "dot", "euclidean"], typer.Option(help="How vectors are compared.")
]
Language: TypeAlias = Annotated[str, typer.Option(help="Of the words, such as `en`.")]
TokenStore: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--token-store",
        help="Keep a small vector of every token, to rerank by: 91 KB an abstract.",
    ),
]
DisplayName: TypeAlias = Annotated[str | None, typer.Option(help="For people.")]
VectorStorage: TypeAlias = Annotated[
    Literal["float32", "float16", "int8"] | None,
    typer.Option(
        help="How vectors are kept where they are searched. A change is tried first on those that "
        "are there, and refused where searches would find less.",
    ),
]
RerankModel: TypeAlias = Annotated[
    str | None,
    typer.Option(help="Reranks where a search asks for it; empty for stored sentences."),
]


def _number(help: str, most: int) -> Any:
    return typer.Option(min=0, max=most, help=help)


ChunkTokensMax: TypeAlias = Annotated[
    int | None, _number("The most tokens of a passage; 0 for 200.", 2_048)
]
ChunkOverlapTokens: TypeAlias = Annotated[
    int | None, _number("Tokens that a passage repeats.", 1_024)
]
ChunkStrategy: TypeAlias = Annotated[
    Literal["structure", "semantic", "hierarchical"] | None,
    typer.Option(
        help="Where passages end: by headings and paragraphs, where the meaning changes, or small "
        "ones with the larger passage around each.",
    ),
]
HnswM: TypeAlias = Annotated[int | None, _number("Links of a node; 0 for 16.", 100)]
HnswEfConstruction: TypeAlias = Annotated[
    int | None, _number("Candidates when a point is added; 0 for 100.", 2_000)
]
HnswEfSearch: TypeAlias = Annotated[int | None, _number("Candidates of a search; 0 for 64.", 4_096)]
LimitMax: TypeAlias = Annotated[int | None, _number("The most hits of a search" + _NODE, 1_000)]
EfSearchMax: TypeAlias = Annotated[
    int | None, _number("The most candidates of a search" + _NODE, 4_096)
]
UpsertPointsMax: TypeAlias = Annotated[
    int | None, _number("The most points of one write" + _NODE, 1_000)
]
PayloadBytesMax: TypeAlias = Annotated[
    int | None, _number("The most bytes of a payload" + _NODE, 64 << 10)
]
FilterConditionsMax: TypeAlias = Annotated[
    int | None, _number("The most conditions of a filter" + _NODE, 256)
]
PointsMax: TypeAlias = Annotated[int | None, _number("The most points" + _NODE, 2**53)]
BytesMax: TypeAlias = Annotated[int | None, _number("The most bytes of its index" + _NODE, 2**53)]
SearchesPerSecond: TypeAlias = Annotated[
    float | None, _number("The most on each node" + _NODE, 10**6)
]
WritesPerSecond: TypeAlias = Annotated[
    float | None, _number("The most on each node" + _NODE, 10**6)
]
RecallSampleShare: TypeAlias = Annotated[
    float | None, _number("The share of searches that is done again exactly.", 1)
]
RecallTarget: TypeAlias = Annotated[
    float | None, _number("The share of the best hits that has to be found.", 1)
]


def limits_of(
    given: Mapping[str, Any], present: CollectionLimits | None = None
) -> CollectionLimits | None:
    """The limits among these options, over the present ones; None where there is none."""
    from ragmesh import CollectionLimits

    return _over(present or CollectionLimits(), given, "")


def recall_of(
    given: Mapping[str, Any], present: RecallSettings | None = None
) -> RecallSettings | None:
    """How it is watched; None where nothing is said."""
    from ragmesh import RecallSettings

    return _over(present or RecallSettings(), given, "recall_")


def hnsw_of(given: Mapping[str, Any], present: HnswSettings | None = None) -> HnswSettings | None:
    """The settings of its graph; None where nothing is said."""
    from ragmesh import HnswSettings

    return _over(present or HnswSettings(), given, "hnsw_")


def chunking_of(given: Mapping[str, Any], present: Chunking | None = None) -> Chunking | None:
    """How documents are cut; None where nothing is said."""
    from ragmesh import Chunking

    return _over(present or Chunking(), given, "chunk_")


def _over(present: T, given: Mapping[str, Any], prefix: str) -> T | None:
    names = [field.name for field in fields(present)]  # type: ignore[arg-type]
    found = {name: given[prefix + name] for name in names if given.get(prefix + name) is not None}
    return replace(present, **found) if found else None  # type: ignore[type-var]
