"""From a request message to its HTTP form, by the contract's own rules: what a REST caller who
read the descriptor would send."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from google.api import annotations_pb2
from google.protobuf import json_format
from google.protobuf.message import Message

from services.rpc.methods import Method, services

_VARIABLE = re.compile(r"\{([a-z_.]+)(?:=([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Rule:
    """One google.api.http rule: `POST /v1/{model=embeddingModels/*}:embed` with its body."""

    verb: str
    template: str
    body: str

    @property
    def variables(self) -> tuple[str, ...]:
        """Field paths in the template."""
        return tuple(name for name, _ in _VARIABLE.findall(self.template))


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What goes over the wire. `json` is None where the rule has no body."""

    verb: str
    path: str
    params: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None


def rules(method: Method) -> list[Rule]:
    """The rule of a method and its additional bindings; empty for a method without."""
    options = services()[method.area].methods_by_name[method.name].GetOptions()
    if not options.HasExtension(annotations_pb2.http):
        return []
    first = options.Extensions[annotations_pb2.http]
    return [_rule(rule) for rule in (first, *first.additional_bindings)]


def transcode(rule: Rule, request: Message) -> HttpRequest:
    """The HTTP form of a request. A field of the path appears nowhere else."""
    rest = type(request)()
    rest.CopyFrom(request)
    path = _VARIABLE.sub(lambda found: quote(_take(rest, found[1]), safe="/"), rule.template)
    if rule.body == "*":
        return HttpRequest(rule.verb, path, {}, _json(rest))
    body = None
    if rule.body:
        body = _json(getattr(rest, rule.body))
        rest.ClearField(rule.body)
    return HttpRequest(rule.verb, path, dict(_query(rest)), body)


def _rule(rule: Any) -> Rule:
    verb = rule.WhichOneof("pattern")
    return Rule(verb.upper(), getattr(rule, verb), rule.body)


def _take(message: Message, path: str) -> str:
    """Removes a field from a message and returns what it was."""
    head, _, tail = path.partition(".")
    if tail:
        return _take(getattr(message, head), tail)
    value = str(getattr(message, head))
    message.ClearField(head)
    return value


def _json(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(message)
    return found


def _query(message: Message) -> Iterator[tuple[str, str]]:
    for name, value in _json(message).items():
        assert not isinstance(value, dict | list), f"{name} cannot stand in a query"
        yield name, str(value)
