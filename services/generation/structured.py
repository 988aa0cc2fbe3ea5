"""JSON that a model wrote, held against the JSON Schema that the caller gave.

Both come from outside, so checking is bounded: a schema brings no pattern (a regular expression
can take for ever, and holds the interpreter meanwhile) and names nothing outside itself, and a
check ends after so many steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from engine.errors import InvalidField

SCHEMA_CHARACTERS_MAX = 65_536
SCHEMA_DEPTH_MAX = 64
STEPS_MAX = 50_000
"""Keywords that are looked at in one check, which takes about a second."""

FAULT_CHARACTERS_MAX = 500

_REFERENCES = ("$ref", "$dynamicRef")


class OutputFault(ValueError):
    """What is wrong with a text, in a sentence for the model."""


class _TooManySteps(ValueError):
    """A check takes more than STEPS_MAX."""


def read_schema(text: str, field: str) -> dict[str, Any]:
    """The schema in a text. Raises InvalidField with what is wrong with it."""
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad(f"is no JSON: {str(error)[:200]}", field) from error
    if not isinstance(schema, dict):
        raise _bad("is no JSON object", field)
    _look(schema, field, 1)
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        raise _bad(f"is no JSON Schema: {error.message[:200]}", field) from error
    except (RecursionError, ValueError) as error:
        raise _bad("is no JSON Schema that can be checked", field) from error
    return schema


def fitting(text: str, schema: Mapping[str, Any]) -> str:
    """The text without a code fence around it. Raises OutputFault where it is no JSON that fits."""
    bare = _unfenced(text)
    try:
        value = json.loads(bare)
    except (ValueError, RecursionError) as error:
        raise OutputFault(f"it is no JSON: {str(error)[:FAULT_CHARACTERS_MAX]}") from error
    counted: list[int] = [0]
    validator = _counting(counted)(schema, registry=Registry())
    try:
        fault = next(iter(validator.iter_errors(value)), None)
    except _TooManySteps as error:
        raise OutputFault("it takes too long to check; write less") from error
    except (Unresolvable, RecursionError) as error:
        raise OutputFault("the schema refers to what it does not have") from error
    if fault is not None:
        raise OutputFault(f"at {fault.json_path[:200]}: {fault.message[:FAULT_CHARACTERS_MAX]}")
    return bare


def _counting(counted: list[int]) -> Any:
    """A validator whose keywords count themselves."""

    def step(check: Callable[..., Iterator[ValidationError] | None]) -> Callable[..., Any]:
        def run(*given: Any) -> Iterator[ValidationError]:
            counted[0] += 1
            if counted[0] > STEPS_MAX:
                raise _TooManySteps
            yield from check(*given) or ()

        return run

    keywords = {name: step(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    return extend(Draft202012Validator, keywords)


def _look(schema: object, field: str, depth: int) -> None:
    """Raises InvalidField for what cannot be checked in bounds."""
    if depth > SCHEMA_DEPTH_MAX:
        raise _bad(f"is nested deeper than {SCHEMA_DEPTH_MAX}", field)
    if isinstance(schema, list):
        for item in schema:
            _look(item, field, depth + 1)
    if not isinstance(schema, dict):
        return
    for name, value in schema.items():
        if _is_pattern(name, value):
            raise _bad(
                f"has {name}, which can take for ever to check. Use enum, or say it in a "
                "description",
                field,
            )
        if name in _REFERENCES and isinstance(value, str) and not value.startswith("#"):
            raise _bad(f"refers to {value[:80]!r}; only what is in it (#...) is looked up", field)
        _look(value, field, depth + 1)


def _is_pattern(name: str, value: object) -> bool:
    """Whether this is the keyword. A property may well be called so; then its value is a schema,
    which is no text, and whose keywords are mostly no schemas."""
    if name == "patternProperties" and isinstance(value, dict):
        return all(isinstance(below, dict | bool) for below in value.values())
    return name == "pattern" and isinstance(value, str)


def _unfenced(text: str) -> str:
    bare = text.strip()
    if bare.startswith("```") and bare.endswith("```") and "\n" in bare:
        return bare[bare.index("\n") + 1 : -3].strip()
    return bare


def _bad(what: str, field: str) -> InvalidField:
    return InvalidField(f"{field} {what}.", field=field, metadata={"field": field})
