"""The OpenAPI 3.1 document of the REST face, made from the contract's descriptor.

A pure function: `protos/generate.py` calls it with a descriptor that still has the comments, which
become the descriptions. Schemas follow the proto3 JSON mapping as the gateway prints it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorSet

from services.gateway.contract import Contract, HttpRule, Method, Service, read_contract
from services.gateway.openapi_schemas import Schemas
from services.gateway.openapi_uploads import upload_operation

_VARIABLE = re.compile(r"\{([^}=]+)(?:=([^}]*))?\}")
_ID = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_ERROR: dict[str, Any] = {"$ref": "#/components/responses/Error"}


def openapi(descriptor: bytes, version: str) -> dict[str, Any]:
    """The document for a serialized FileDescriptorSet. `version` is that of the API."""
    files = FileDescriptorSet.FromString(descriptor)
    contract = read_contract(descriptor)
    schemas = Schemas(files)
    paths: dict[str, dict[str, Any]] = {}
    for service in contract.services:
        for method in service.methods:
            for number, rule in enumerate(method.rules):
                path, parameters = _path(rule.template)
                name = f"{method.name}{number + 1 if number else ''}"
                operation = _Operation(service, method, rule, name, parameters, schemas)
                paths.setdefault(path, {})[rule.verb] = operation.value()
    path, ((name, form),) = _path("/v1/{parent=collections/*}/documents:upload")
    paths[path] = {"post": upload_operation(schemas, _parameter(name, form))}
    schemas.reference("google.rpc.Status")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ragmesh",
            "version": version,
            "description": "A mesh of services for retrieval-augmented generation. The same "
            "services speak gRPC and gRPC-Web on the same port.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": _tags(contract, schemas),
        "paths": dict(sorted(paths.items())),
        "components": {"schemas": schemas.components(), "responses": {"Error": _error_response()}},
    }


def _tags(contract: Contract, schemas: Schemas) -> list[dict[str, Any]]:
    return [
        {"name": service.area, "description": schemas.comment(service.full_name)}
        for service in contract.services
    ]


def _error_response() -> dict[str, Any]:
    return {
        "description": "A failure: a google.rpc.Status whose first detail is a "
        "google.rpc.ErrorInfo of domain `ragmesh`. Programs match its `reason`.",
        "headers": {"x-request-id": {"schema": {"type": "string"}}},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/google.rpc.Status"}}
        },
    }


def _path(template: str) -> tuple[str, list[tuple[str, str]]]:
    """The path in OpenAPI's form, and for each of its parameters the name and what it identifies:
    `/v1/{name=collections/*}:stats` → `/v1/collections/{collection}:stats`."""
    parameters: list[tuple[str, str]] = []

    def spell(match: re.Match[str]) -> str:
        segments = (match[2] or "*").split("/")
        for number, segment in enumerate(segments):
            if segment == "*":
                owner = segments[number - 1] if number else match[1]
                singular = owner.removesuffix("s")
                parameters.append((singular, f"{owner}/{{id}}"))
                segments[number] = "{" + singular + "}"
        return "/".join(segments)

    return _VARIABLE.sub(spell, template), parameters


def _parameter(name: str, form: str) -> dict[str, Any]:
    """A parameter of a path, and the name that it is the id in."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": f"The id in `{form}`.",
        "schema": {"type": "string", "pattern": f"^{_ID}$"},
    }


@dataclass(frozen=True, slots=True)
class _Operation:
    """One verb of one path."""

    service: Service
    method: Method
    rule: HttpRule
    name: str
    parameters: list[tuple[str, str]]
    schemas: Schemas

    def value(self) -> dict[str, Any]:
        comment = self.schemas.comment(f"{self.service.full_name}.{self.method.name}")
        operation: dict[str, Any] = {
            "operationId": self.name,
            "tags": [self.service.area],
            "summary": comment.partition(". ")[0].rstrip("."),
            "description": comment,
            "parameters": [*self._in_path(), *self._in_query()],
            "responses": {"200": self._answer(), "default": _ERROR},
        }
        if body := self._body():
            operation["requestBody"] = body
        return operation

    def _in_path(self) -> Iterator[dict[str, Any]]:
        for name, form in self.parameters:
            yield _parameter(name, form)

    def _bound(self) -> set[str]:
        """Top-level fields that the path fills."""
        return {match[1] for match in _VARIABLE.finditer(self.rule.template)}

    def _in_query(self) -> Iterator[dict[str, Any]]:
        if self.rule.body == "*":
            return
        request = self.schemas.message(self.method.input_type)
        taken = self._bound() | {self.rule.body}
        for field in request.field:
            if field.name not in taken and self._fits_query(field):
                schema = self.schemas.field(self.method.input_type, field)
                description = schema.pop("description", "")
                yield {
                    "name": field.json_name,
                    "in": "query",
                    "description": description,
                    "schema": schema,
                }

    def _fits_query(self, field: FieldDescriptorProto) -> bool:
        """Scalars, enums and the messages that JSON writes as a string."""
        if field.type != FieldDescriptorProto.TYPE_MESSAGE:
            return True
        schema = self.schemas.of_type(field)
        return schema.get("type") == "string"

    def _body(self) -> dict[str, Any] | None:
        if not self.rule.body:
            return None
        request = self.schemas.message(self.method.input_type)
        if self.rule.body == "*":
            schema = self._whole(request)
        else:
            field = next(f for f in request.field if f.name == self.rule.body)
            schema = self.schemas.field(self.method.input_type, field)
        return {"required": True, "content": {"application/json": {"schema": schema}}}

    def _whole(self, request: DescriptorProto) -> dict[str, Any]:
        """The request without what the path says; a reference where that is all of it."""
        if not self._bound():
            return self.schemas.reference(self.method.input_type)
        return self.schemas.object(self.method.input_type, request, without=self._bound())

    def _answer(self) -> dict[str, Any]:
        schema = self.schemas.reference(self.method.output_type)
        if not self.method.server_streaming:
            return {
                "description": self.schemas.comment(self.method.output_type),
                "content": {"application/json": {"schema": schema}},
            }
        return {
            "description": "Server-sent events. Each event's `data` is one JSON object of the "
            "schema; a failure before the first is an error response.",
            "content": {"text/event-stream": {"schema": schema}},
        }
