"""The part of the configuration that says which models write answers, and what they cost.

RAGMESH_GENERATION__OPENAI='[{"id": "writer", "url": "http://127.0.0.1:8000/v1",
    "model": "qwen3-8b", "fallbacks": ["spare"]}]'
RAGMESH_GENERATION__ANTHROPIC='[{"id": "spare", "model": "claude-x", "api_key": "…"}]'
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class LanguageModel(BaseModel):
    """A generation model behind an endpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    """Its name here: `generationModels/{id}`."""
    url: str
    """Such as `http://127.0.0.1:8000/v1`. Redirects are not followed."""
    model: str
    """Its name there."""
    api_key: SecretStr = SecretStr("")
    """What the endpoint knows us by."""
    timeout_s: float = Field(120.0, gt=0)
    """For one answer."""
    first_token_s: float = Field(30.0, gt=0)
    """For its first token; then the endpoint counts as failed, and a fallback is asked."""
    idle_s: float = Field(30.0, gt=0)
    """Between two pieces of an answer; with less than a slow model takes, answers break off."""
    output_tokens_max: int = Field(4_096, ge=1, le=32_768)
    """The most tokens of an answer where the request does not say it. Budgets reserve as much."""
    concurrency_max: int = Field(16, ge=1)
    """Answers at once. More is of use only as far as the endpoint takes them."""
    waiting_max: int = Field(64, ge=0)
    """Callers that wait for one of these places; more are refused with QUEUE_FULL."""
    wait_s: float = Field(5.0, ge=0)
    """How long a caller waits for a place before it is refused with QUEUE_FULL."""
    fallbacks: tuple[str, ...] = Field((), max_length=8)
    """Ids of models that are asked in this order where this one cannot begin an answer: 429, 5xx,
    no connection, no first token in time, or no place."""


class OpenAIModel(LanguageModel):
    """One that speaks the OpenAI protocol. `api_key` is sent as a bearer token."""

    output_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """What the endpoint calls the most tokens to write. Others than OpenAI's know the older name
    best; OpenAI's reasoning models take only the newer one."""
    structured_output: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How it is told the schema of an answer: by `response_format`, or in the prompt, with or
    without `response_format`. All of them are checked here."""


class AnthropicModel(LanguageModel):
    """One that speaks the Anthropic protocol. `api_key` is sent as `x-api-key`."""

    url: str = "https://api.anthropic.com/v1"
    """Where `/messages` is. Redirects are not followed."""
    version: str = "2023-06-01"
    """The protocol's version, as `anthropic-version`."""


class GenerationSettings(BaseModel):
    """Which models write answers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    default: str = "generationModels/extractive"
    """For questions that name none."""
    openai: tuple[OpenAIModel, ...] = ()
    """More models."""
    anthropic: tuple[AnthropicModel, ...] = ()
    """More models."""
    prices: Path | None = None
    """The price file, TOML or (`.json`) JSON. It is read again when it changes; one that is broken
    then is logged, and the one before stays. None for models without prices."""
    breaker_failures_max: int = Field(5, ge=1)
    """Failures of an endpoint in a row before it is left alone. With few, one bad minute of an
    endpoint costs its callers `breaker_open_s`."""
    breaker_open_s: float = Field(10.0, gt=0)
    """How long it is left alone before one call tries it again."""

    @property
    def language_models(self) -> tuple[OpenAIModel | AnthropicModel, ...]:
        """All models behind endpoints."""
        return (*self.openai, *self.anthropic)
