"""Values of the document service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ragmesh._errors import RagmeshError
from ragmesh._types.embedding import TextSpan

DocumentState = Literal["unspecified", "ingesting", "active", "failed"]
IngestJobState = Literal["unspecified", "queued", "running", "succeeded", "failed", "cancelled"]
IngestJobStage = Literal["unspecified", "parse", "chunk", "embed", "publish"]

FINAL_STATES: frozenset[IngestJobState] = frozenset({"succeeded", "failed", "cancelled"})


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a collection, `collections/{id}/documents/{id}`."""

    name: str
    display_name: str
    media_type: str
    source_uri: str
    payload: Mapping[str, Any]
    state: DocumentState
    size_bytes: int
    content_sha256: str
    text_characters: int
    passages: int
    title: str
    ingest_job: str
    create_time: datetime | None
    update_time: datetime | None


@dataclass(frozen=True, slots=True)
class Place:
    """A page, from 1 on, and the smallest box on it around the blocks of text that a passage has a
    part of, in points of 1/72 inch from the page's lower left corner; all 0 where only the page is
    known."""

    page: int
    left: float = 0.0
    bottom: float = 0.0
    right: float = 0.0
    top: float = 0.0


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document's text, the unit of retrieval.

    `text` is exactly the characters of `span` in the document's stored text. `page` counts from
    1, 0 where the format has none. `sentences` are spans of `text`. `places` are the pages that it
    lies on, at most 32; `parent` is the span of what it is a part of, in hierarchical collections.
    """

    document: str
    passage_index: int
    text: str
    span: TextSpan
    heading_path: tuple[str, ...]
    page: int
    tokens: int
    sentences: tuple[TextSpan, ...]
    places: tuple[Place, ...] = ()
    parent: TextSpan | None = None


@dataclass(frozen=True, slots=True)
class IngestJob:
    """The ingestion of one document.

    `error` says why it failed, in state `failed`; `watermark` is the commit that made the
    document searchable, in state `succeeded`. `attempts` counts from the last retry on.
    """

    name: str
    document: str
    state: IngestJobState
    stage: IngestJobStage
    passages_done: int
    passages_total: int
    error: RagmeshError | None
    attempts: int
    create_time: datetime | None
    update_time: datetime | None
    finish_time: datetime | None
    watermark: str

    @property
    def done(self) -> bool:
        """Whether its state is final."""
        return self.state in FINAL_STATES


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """A document that was just stored, and the job that makes it searchable."""

    document: Document
    ingest_job: IngestJob
