"""The `ragmesh` program as data: which commands and flags exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import typer.main

from services.cli import app
from services.config import Settings


def commands() -> dict[str, set[str]]:
    """Every command with its flags; one of a group by its words, such as `collections list`."""
    return dict(_below("", typer.main.get_command(app)))


def _below(path: str, command: Any) -> Iterator[tuple[str, set[str]]]:
    if hasattr(command, "commands"):
        for name, child in command.commands.items():
            yield from _below(f"{path} {name}".strip(), child)
    flags = {"--help"}
    for parameter in command.params:
        flags |= {*parameter.opts, *parameter.secondary_opts}
    yield path, flags


def refused(words: Sequence[str]) -> str:
    """Why the program would not take this command line; empty if it would."""
    program: Any = typer.main.get_command(app)
    if words[0] not in program.commands:
        return f"No such command: {words[0]}"
    try:
        program.commands[words[0]].make_context(words[0], list(words[1:]))
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        return str(error.format_message())
    return ""


def settings() -> dict[str, str]:
    """Every environment variable that ragmesh reads, with its field."""
    found = {}
    for name, field in Settings.model_fields.items():
        part = field.annotation
        if part is not None and hasattr(part, "model_fields"):
            for inner in part.model_fields:
                found[f"RAGMESH_{name}__{inner}".upper()] = f"{name}.{inner}"
        else:
            found[f"RAGMESH_{name}".upper()] = name
    return found
