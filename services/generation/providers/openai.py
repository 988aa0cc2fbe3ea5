"""The OpenAI chat completions protocol, which most servers of language models speak."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any, Literal

from services.config_generation import OpenAIModel
from services.generation.backend import ChatMessage, Tool, ToolCall
from services.generation.providers.endpoint import Endpoint
from services.generation.providers.pieces import (
    ANSWER_CHARACTERS_MAX,
    TOOL_CALLS_MAX,
    Piece,
    Prompt,
    Said,
    Stopped,
    Thinking,
    Used,
)

_FINISHES: Mapping[str, Literal["stop", "length", "tool_calls", "filtered"]] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "filtered",
}


class OpenAIProvider:
    """One model of the configuration."""

    kind: Literal["openai"] = "openai"

    def __init__(self, model: OpenAIModel) -> None:
        self._model = model
        key = model.api_key.get_secret_value()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._endpoint = Endpoint(model.id, model.url, headers, model.concurrency_max)
        self.instructs_schema = model.structured_output != "json_schema"

    async def close(self) -> None:
        """Closes connections."""
        await self._endpoint.close()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[Piece, None]:
        """The pieces of one answer."""
        reading = _Reading()
        body = self._body(prompt)
        async with aclosing(
            self._endpoint.events("/chat/completions", body, prompt.request_id)
        ) as events:
            async for event in events:
                if event.get("error"):
                    raise self._endpoint.failed("reported an error in place of an answer")
                try:
                    pieces = list(reading.take(event))
                except (AttributeError, TypeError, KeyError, ValueError) as error:
                    raise self._endpoint.failed(
                        "sent a chunk that is no chat completion"
                    ) from error
                for piece in pieces:
                    yield piece
        if not reading.finish:
            raise self._endpoint.failed("closed the stream in the middle of an answer")
        for called in reading.calls():
            yield called
        yield Stopped(_FINISHES.get(reading.finish, "stop"))

    def _body(self, prompt: Prompt) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model.model,
            "messages": [_message(message) for message in prompt.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            self._model.output_tokens_field: prompt.output_tokens_max,
        }
        if prompt.temperature is not None:
            body["temperature"] = prompt.temperature
        if prompt.stop_sequences:
            body["stop"] = list(prompt.stop_sequences)
        if prompt.seed is not None:
            body["seed"] = prompt.seed
        if prompt.tools:
            body["tools"] = [
                {"type": "function", "function": _function(tool)} for tool in prompt.tools
            ]
            body["tool_choice"] = prompt.tool_choice.mode
            if prompt.tool_choice.tool:
                only = {"name": prompt.tool_choice.tool}
                body["tool_choice"] = {"type": "function", "function": only}
        if prompt.schema is not None and self._model.structured_output != "prompt":
            body["response_format"] = {"type": "json_object"}
            if self._model.structured_output == "json_schema":
                named = {"name": "answer", "schema": prompt.schema}
                body["response_format"] = {"type": "json_schema", "json_schema": named}
        return body


class _Reading:
    """What came of one answer so far."""

    def __init__(self) -> None:
        self.finish = ""
        self._calls: dict[int, list[str]] = {}
        self._characters = 0

    def take(self, event: Mapping[str, Any]) -> Iterator[Piece]:
        """The pieces of one chunk. Raises ValueError and the like for what is none."""
        usage = event.get("usage")
        if usage:
            details = usage.get("prompt_tokens_details") or {}
            yield Used(
                _count(usage.get("prompt_tokens")),
                _count(usage.get("completion_tokens")),
                _count(details.get("cached_tokens")),
            )
        for choice in (event.get("choices") or ())[:1]:
            self.finish = _text(choice.get("finish_reason")) or self.finish
            delta = choice.get("delta") or {}
            thought = _text(delta.get("reasoning_content") or delta.get("reasoning"))
            if thought:
                yield Thinking(thought)
            said = _text(delta.get("content")) or _text(delta.get("refusal"))
            if said:
                yield Said(said)
            for part in delta.get("tool_calls") or ():
                yield self._called(part)

    def _called(self, part: Mapping[str, Any]) -> Thinking:
        index = int(part.get("index") or 0)
        function = part.get("function") or {}
        call = self._calls.setdefault(index, ["", "", ""])
        arguments = _text(function.get("arguments"))
        call[0] = call[0] or _text(part.get("id"))
        call[1] = call[1] or _text(function.get("name"))
        call[2] += arguments
        self._characters += len(arguments) + len(call[1])
        if len(self._calls) > TOOL_CALLS_MAX or self._characters > ANSWER_CHARACTERS_MAX:
            raise ValueError("tool calls without end")
        return Thinking(arguments)

    def calls(self) -> list[ToolCall]:
        """The tool calls, in their order."""
        return [
            ToolCall(identity or f"call_{index}", name, arguments or "{}")
            for index, (identity, name, arguments) in sorted(self._calls.items())
        ]


def _message(message: ChatMessage) -> dict[str, Any]:
    said: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        said["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        said["tool_call_id"] = message.tool_call_id
    return said


def _function(tool: Tool) -> dict[str, Any]:
    described: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if tool.parameters_schema:
        described["parameters"] = json.loads(tool.parameters_schema)
    return described


def _text(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError("a text is none")
    return value


def _count(value: object) -> int | None:
    """A count of tokens; None for what is none, so that ours counts."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return value if whole and 0 <= value < 2**31 else None  # type: ignore[operator,return-value]
