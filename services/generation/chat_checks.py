"""What makes a chat, its tools and the wishes for its answer wrong whatever the state."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from ragmesh.api.generation.v1 import message_pb2

from engine.errors import InvalidField
from services.generation.providers.pieces import TOOL_CALLS_MAX
from services.generation.structured import SCHEMA_CHARACTERS_MAX, read_schema
from services.rpc import fields

MESSAGES_MAX = 1_000
MESSAGES_CHARACTERS_MAX = 2_000_000
TOOLS_MAX = 128
TOOL_DESCRIPTION_CHARACTERS_MAX = 10_000
TOOL_CALL_ID_CHARACTERS_MAX = 256
STOP_SEQUENCES_MAX = 4
"""What every endpoint takes."""
STOP_CHARACTERS_MAX = 256

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_Role = message_pb2.ChatMessage
_Mode = message_pb2.ToolChoice


def messages(given: Sequence[message_pb2.ChatMessage], field: str) -> None:
    """A chat; none is right too."""
    fields.items(given, field, MESSAGES_MAX, 0)
    characters = 0
    for index, message in enumerate(given):
        _message(message, f"{field}[{index}]")
        characters += len(message.text) + sum(len(c.arguments) for c in message.tool_calls)
    fields.number(characters, f"characters of {field}", 0, MESSAGES_CHARACTERS_MAX)
    if not given:
        return
    if given[-1].role not in (_Role.ROLE_USER, _Role.ROLE_TOOL) or not any(
        message.role == _Role.ROLE_USER for message in given
    ):
        raise InvalidField(
            f"{field} ends with a message of {_Role.Role.Name(given[-1].role)}, but needs one of "
            "the user, and ends with one of ROLE_USER or ROLE_TOOL.",
            field=field,
        )


def _message(message: message_pb2.ChatMessage, field: str) -> None:
    fields.enum(message, "role")
    if message.role == _Role.ROLE_UNSPECIFIED:
        raise InvalidField(f"{field}.role is missing.", field=f"{field}.role")
    if message.tool_calls and message.role != _Role.ROLE_ASSISTANT:
        raise InvalidField(
            f"{field}.tool_calls are those of an assistant. Give the message ROLE_ASSISTANT.",
            field=f"{field}.tool_calls",
        )
    fields.items(message.tool_calls, f"{field}.tool_calls", TOOL_CALLS_MAX, 0)
    for index, call in enumerate(message.tool_calls):
        at = f"{field}.tool_calls[{index}]"
        fields.characters(call.id, f"{at}.id", TOOL_CALL_ID_CHARACTERS_MAX, 1)
        _name(call.name, f"{at}.name")
        _object(call.arguments or "{}", f"{at}.arguments")
    if (message.role == _Role.ROLE_TOOL) != bool(message.tool_call_id):
        raise InvalidField(
            f"{field}.tool_call_id is there for messages of ROLE_TOOL, and for no others.",
            field=f"{field}.tool_call_id",
        )
    fields.characters(message.tool_call_id, f"{field}.tool_call_id", TOOL_CALL_ID_CHARACTERS_MAX)
    if not message.tool_calls and message.role != _Role.ROLE_TOOL:
        fields.required(message.text, f"{field}.text")


def tools(
    given: Sequence[message_pb2.ToolDefinition], choice: message_pb2.ToolChoice | None
) -> None:
    """Tools, and which of them are called."""
    fields.items(given, "tools", TOOLS_MAX, 0)
    known: set[str] = set()
    for index, tool in enumerate(given):
        at = f"tools[{index}]"
        _name(tool.name, f"{at}.name")
        if tool.name in known:
            raise InvalidField(
                f"{at}.name is that of a tool before it. Give each another name.",
                field=f"{at}.name",
            )
        known.add(tool.name)
        fields.characters(tool.description, f"{at}.description", TOOL_DESCRIPTION_CHARACTERS_MAX)
        schema = tool.parameters_schema
        fields.characters(schema, f"{at}.parameters_schema", SCHEMA_CHARACTERS_MAX)
        if schema:
            # Checked by nobody here, so it may have what answers' schemas may not.
            _object(schema, f"{at}.parameters_schema")
    if choice is None:
        return
    fields.enum(choice, "mode")
    if choice.mode == _Mode.MODE_REQUIRED and not known:
        raise InvalidField(
            "tool_choice requires a tool, and there are none. Pass tools.",
            field="tool_choice.mode",
        )
    if choice.tool and (choice.mode != _Mode.MODE_REQUIRED or choice.tool not in known):
        raise InvalidField(
            "tool_choice.tool is not the name of one of the tools, or mode is not MODE_REQUIRED.",
            field="tool_choice.tool",
        )


def output_schema(given: str) -> None:
    """The JSON Schema of an answer; none is right too."""
    fields.characters(given, "output_schema", SCHEMA_CHARACTERS_MAX)
    if given:
        read_schema(given, "output_schema")


def stop_sequences(given: Sequence[str]) -> None:
    """Where a model stops."""
    fields.items(given, "stop_sequences", STOP_SEQUENCES_MAX, 0)
    for index, text in enumerate(given):
        fields.characters(text, f"stop_sequences[{index}]", STOP_CHARACTERS_MAX, 1)


def _name(name: str, field: str) -> None:
    if not _TOOL_NAME.fullmatch(name):
        raise InvalidField(
            f"{field} is {name[:80]!r}, but a tool's name matches {_TOOL_NAME.pattern}.",
            field=field,
            metadata={"field": field, "pattern": _TOOL_NAME.pattern},
        )


def _object(text: str, field: str) -> None:
    try:
        right = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        right = False
    if not right:
        raise InvalidField(f"{field} is no JSON object.", field=field, metadata={"field": field})
