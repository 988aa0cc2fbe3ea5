"""Calls of the embedding service."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ragmesh import _rpcs as rpcs
from ragmesh._convert import embedding as convert
from ragmesh._names import refuse, resource
from ragmesh._plan import Pages, Plan, paged, send
from ragmesh._session import Lane, Session
from ragmesh._split import checked_texts, send_halving, split, text_bytes
from ragmesh._types.embedding import EmbeddingModel, Embeddings, InputKind, Reranking
from ragmesh._values import to_enum
from ragmesh.api.embedding.v1 import embedding_service_pb2 as pb

EMBED_TEXTS_MAX = 1_024
COUNT_TEXTS_MAX = 4_096
RERANK_PASSAGES_MAX = 1_024
DEFAULT_MODEL = "default"


def embed_texts(
    session: Session,
    texts: Iterable[str],
    *,
    model: str = DEFAULT_MODEL,
    input_kind: InputKind = "passage",
    dimensions: int = 0,
    truncate: bool = False,
    include_sentences: bool = False,
    include_tokens: bool = False,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[Embeddings]:
    """Turns texts into vectors (L2-normalized float32), in the order of the texts.

    More than 1,024 texts, or 16 MiB, go in several requests. `dimensions` 0 is the model's own.
    A text over the model's `tokens_max` raises TextTooLong unless `truncate` is set; a model that
    changes between two requests of one call raises FingerprintMismatch.
    """

    def request(part: Sequence[str]) -> pb.EmbedTextsRequest:
        return pb.EmbedTextsRequest(
            model=resource("embeddingModels", model, "model"),
            texts=part,
            input_kind=to_enum(pb.InputKind.DESCRIPTOR, input_kind, "input_kind"),
            dimensions=dimensions,
            truncate=truncate,
            include_sentences=include_sentences,
            include_tokens=include_tokens,
        )

    parts: list[pb.EmbedTextsResponse] = []
    listed = checked_texts(texts, "texts")
    for part in split(listed, request([]), items_max=EMBED_TEXTS_MAX, size=text_bytes):
        parts += yield from send_halving(
            session, rpcs.EMBED_TEXTS, part, request, timeout_s=timeout_s, lane=lane
        )
    return convert.embeddings(parts)


def rerank_passages(
    session: Session,
    query: str,
    passages: Iterable[str],
    *,
    model: str = DEFAULT_MODEL,
    prior_scores: Iterable[float] = (),
    truncate: bool = False,
    timeout_s: float | None = None,
    lane: Lane | None = None,
) -> Plan[Reranking]:
    """Orders 1 to 1,024 passages by how well they answer a query, the best first.

    Give them with the most promising first: they are scored in that order until the deadline is
    near, and the result says how far that was; only if not one was scored it is DeadlineExceeded.
    `prior_scores` are those of the search that found the passages, one each, higher for better;
    then both count. Long passages are read in windows; a query over the model's `tokens_max`
    raises TextTooLong unless `truncate` is set.
    """
    listed = checked_texts(passages, "passages")
    if len(listed) > RERANK_PASSAGES_MAX:
        raise refuse(
            "passages",
            f"are {len(listed)}; give the {RERANK_PASSAGES_MAX:,} most promising at most, because "
            "scores of several requests make no common order.",
        )
    request = pb.RerankPassagesRequest(
        model=resource("embeddingModels", model, "model"),
        query=query,
        passages=listed,
        prior_scores=prior_scores,
        truncate=truncate,
    )
    response = yield from send(
        session, rpcs.RERANK_PASSAGES, request, timeout_s=timeout_s, lane=lane
    )
    return convert.reranking(response)


def count_tokens(
    session: Session,
    texts: Iterable[str],
    *,
    model: str = DEFAULT_MODEL,
    timeout_s: float | None = None,
) -> Plan[list[int]]:
    """Counts each text's tokens as the model sees them, without special tokens.

    More than 4,096 texts, or 16 MiB, go in several requests.
    """
    name = resource("embeddingModels", model, "model")
    base = pb.CountTokensRequest(model=name)
    counts: list[int] = []
    listed = checked_texts(texts, "texts")
    for part in split(listed, base, items_max=COUNT_TEXTS_MAX, size=text_bytes):
        request = pb.CountTokensRequest(model=name, texts=part)
        response = yield from send(session, rpcs.COUNT_TOKENS, request, timeout_s=timeout_s)
        counts += response.tokens
    return counts


def list_embedding_models(
    session: Session, *, page_size: int = 0, timeout_s: float | None = None
) -> Pages[EmbeddingModel]:
    """Lists the models that are served, by name."""
    return paged(
        session,
        rpcs.LIST_EMBEDDING_MODELS,
        pb.ListEmbeddingModelsRequest(page_size=page_size),
        lambda response: map(convert.model, response.embedding_models),
        timeout_s=timeout_s,
    )


def get_embedding_model(
    session: Session, name: str = DEFAULT_MODEL, *, timeout_s: float | None = None
) -> Plan[EmbeddingModel]:
    """Returns one model; raises EmbeddingModelNotFound."""
    request = pb.GetEmbeddingModelRequest(name=resource("embeddingModels", name, "name"))
    response = yield from send(session, rpcs.GET_EMBEDDING_MODEL, request, timeout_s=timeout_s)
    return convert.model(response.embedding_model)
