"""A model behind an endpoint that speaks the OpenAI chat completions protocol.

Answers are always streamed from the endpoint, so that a caller who goes away closes the request
there too. What the endpoint says in its errors stays here: it may hold keys or texts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal

import openai

from engine.answers.cite_markers import read_markers
from engine.answers.evidence import Citation
from engine.errors import DeadlineExceeded, RagmeshError, UpstreamFailed
from engine.types import Span
from services.config import OpenAIModel
from services.generation.backend import Delta, Progress, Started, Task, Written
from services.generation.prompt import NO_ANSWER, messages
from services.rpc.call import Call

RETRIES_MAX = 2
"""Further tries, by the package, of a request that was refused (408, 409, 429, 5xx) or lost
before the first byte of an answer; all within the deadline and `timeout_s`."""

CONNECT_TIMEOUT_S = 5.0

ANSWER_CHARACTERS_MAX = 500_000
"""Where an answer is cut that an endpoint would write forever: well above 32,768 tokens."""


@dataclass(slots=True)
class _Reading:
    """What came from the endpoint so far."""

    text: str = ""
    held: str = ""
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    closed: bool = False

    def take(self, chunk: Any) -> str:
        """Reads one chunk; returns the text that may be shown."""
        if chunk.usage is not None:
            self.input_tokens = chunk.usage.prompt_tokens or 0
            self.output_tokens = chunk.usage.completion_tokens or 0
        if not chunk.choices:
            return ""
        choice = chunk.choices[0]
        self.finish = choice.finish_reason or self.finish
        piece = (choice.delta.content if choice.delta is not None else "") or ""
        self.text += piece
        if len(self.text) > ANSWER_CHARACTERS_MAX:
            self.text = self.text[:ANSWER_CHARACTERS_MAX]
            self.finish = "length"
            self.closed = True
        self.held += piece
        # A text that may yet turn out to be NO_ANSWER is not shown before that is known.
        if NO_ANSWER.startswith(self.text.strip()[: len(NO_ANSWER)]):
            return ""
        shown, self.held = self.held, ""
        return shown

    @property
    def abstained(self) -> bool:
        return self.text.strip().startswith(NO_ANSWER) or not self.text.strip()


class OpenAIBackend:
    """One model of the configuration."""

    kind: Literal["openai"] = "openai"

    def __init__(self, model: OpenAIModel, threads: Executor) -> None:
        self._threads = threads
        self._name = f"generationModels/{model.id}"
        self._timeout_s = model.timeout_s
        self.upstream_model = model.model
        self.display_name = f"{model.model} (OpenAI protocol)"
        self._client = openai.AsyncOpenAI(
            base_url=model.url,
            # The package refuses an empty key and would look for one in the environment.
            api_key=model.api_key.get_secret_value() or "none",
            max_retries=RETRIES_MAX,
            timeout=openai.Timeout(model.timeout_s, connect=CONNECT_TIMEOUT_S),
        )
        # Taken from the environment, meant for another endpoint.
        self._client.organization = None
        self._client.project = None

    async def close(self) -> None:
        """Closes connections."""
        await self._client.close()

    async def write(self, task: Task, call: Call) -> AsyncGenerator[Progress, None]:
        """Streams an answer; its citations come at the end, when they can be checked."""
        end_s = asyncio.get_running_loop().time() + self._timeout_s
        stream = await self._in_time(self._open(task, call), call, end_s)
        reading = _Reading()
        try:
            yield Started()
            chunks: AsyncIterator[Any] = aiter(stream)
            while not reading.closed:
                try:
                    chunk = await self._in_time(anext(chunks), call, end_s)
                except StopAsyncIteration:
                    break
                shown = self._take(reading, chunk)
                if shown:
                    yield Delta(shown)
        finally:
            await stream.close()
        if not reading.finish:
            raise self._failed("closed the stream in the middle of an answer")
        loop = asyncio.get_running_loop()
        marked = await loop.run_in_executor(
            self._threads, read_markers, reading.text, task.passages
        )
        for progress in _ending(task, reading, marked.citations):
            yield progress

    async def _open(self, task: Task, call: Call) -> Any:
        wishes: dict[str, Any] = {}
        if task.output_tokens_max is not None:
            # The older name of the field: other endpoints than OpenAI's know it best.
            wishes["max_tokens"] = task.output_tokens_max
        if task.temperature is not None:
            wishes["temperature"] = task.temperature
        create: Any = self._client.chat.completions.create
        return await create(
            model=self.upstream_model,
            messages=messages(task, secrets.token_hex(8)),
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"X-Request-Id": call.request_id},
            **wishes,
        )

    def _take(self, reading: _Reading, chunk: Any) -> str:
        try:
            return reading.take(chunk)
        except (AttributeError, TypeError) as error:
            # The package builds chunks without validating them.
            raise self._failed("sent a chunk that is no chat completion") from error

    async def _in_time(self, work: Any, call: Call, end_s: float) -> Any:
        """Awaits a step of the endpoint. Raises DeadlineExceeded or UpstreamFailed."""
        left_s = end_s - asyncio.get_running_loop().time()
        remaining_s = call.remaining_s()
        try:
            async with asyncio.timeout(left_s if remaining_s is None else min(left_s, remaining_s)):
                return await work
        except (TimeoutError, openai.APITimeoutError) as error:
            if remaining_s is not None and remaining_s <= left_s:
                raise DeadlineExceeded(
                    "The deadline passed while the generation model wrote."
                ) from error
            raise self._failed(
                f"did not finish within {self._timeout_s:g} s", timeout_s=self._timeout_s
            ) from error
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except openai.APIConnectionError as error:
            raise self._failed("could not be reached, or broke the connection") from error
        except (openai.OpenAIError, ValueError) as error:
            raise self._failed("reported an error, or sent what is no chat completion") from error

    def _refused(self, error: openai.APIStatusError) -> RagmeshError:
        status = error.status_code
        retry_after_s = None
        if status in (401, 403):
            what = f"refused the key (HTTP {status}). Check api_key in the configuration"
        elif status == 429:
            what = "takes no more requests now (HTTP 429)"
            retry_after_s = _seconds(error.response.headers.get("retry-after"))
        elif status < 500:
            what = f"refused the request (HTTP {status}). Check url and model in the configuration"
        else:
            what = f"failed (HTTP {status})"
        return self._failed(what, retry_after_s, http_status=status)

    def _failed(
        self, what: str, retry_after_s: float | None = None, **metadata: str | float
    ) -> UpstreamFailed:
        return UpstreamFailed(
            f"The endpoint of {self._name} {what}.",
            metadata={"model": self._name, **metadata},
            retry_after_s=retry_after_s,
        )


def _seconds(header: str | None) -> float | None:
    """`Retry-After` in seconds, where it is a number of at most an hour; its dates are not read."""
    try:
        seconds = float(header or "")
    except ValueError:
        return None
    return seconds if 0 <= seconds <= 3600 else None


def _ending(task: Task, reading: _Reading, citations: Sequence[Citation]) -> Iterator[Progress]:
    """What is left to say when the endpoint is done."""
    usage = (reading.input_tokens, reading.output_tokens)
    if reading.abstained:
        yield Written("", (), 0.0, "low_support" if task.passages else "no_passage", *usage)
        return
    if reading.held:
        yield Delta(reading.held)
    if task.passages and not citations:
        yield Written("", (), 0.0, "unverified", *usage)
        return
    yield from citations
    confidence = _confidence(reading.text, citations)
    yield Written(reading.text, citations, confidence, "", *usage, cut=reading.finish == "length")


def _confidence(text: str, citations: Sequence[Citation]) -> float:
    """The mean over the answer's characters of the best score among the citations of the
    statement they are in; 0 for those of statements without one."""
    best: dict[Span, float] = {}
    for citation in citations:
        best[citation.answer_span] = max(best.get(citation.answer_span, 0.0), citation.score)
    return min(1.0, sum((s.end - s.start) * score for s, score in best.items()) / len(text))
