"""The contract as values: each service and method of the descriptor, with its message classes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from google.api import annotations_pb2
from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message

AREAS = ("embedding", "retrieval", "documents", "memory", "generation", "chat")
"""The services of the mesh, by the names that nodes announce."""

_SINGULAR = {"documents": "document"}


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `area` is its service's name in the mesh; `idempotent` says that repeating it
    changes nothing."""

    area: str
    name: str
    path: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool
    idempotent: bool
    has_http: bool


@cache
def services() -> MappingProxyType[str, ServiceDescriptor]:
    """The service descriptor of each area."""
    found = {}
    for area in AREAS:
        stem = _SINGULAR.get(area, area)
        module = importlib.import_module(f"ragmesh.api.{area}.v1.{stem}_service_pb2")
        found[area] = next(iter(module.DESCRIPTOR.services_by_name.values()))
    return MappingProxyType(found)


@cache
def methods() -> MappingProxyType[str, Method]:
    """Every method of the contract, by its gRPC path."""
    found = {}
    for area, service in services().items():
        for method in service.methods:
            value = _method(area, service, method)
            found[value.path] = value
    return MappingProxyType(found)


@cache
def methods_of(area: str) -> MappingProxyType[str, Method]:
    """The methods of one service, by name."""
    return MappingProxyType({m.name: m for m in methods().values() if m.area == area})


def descriptor_bytes() -> bytes:
    """The one descriptor, as the generator wrote it (`api.binpb`)."""
    return files("ragmesh.api").joinpath("api.binpb").read_bytes()


def _method(area: str, service: ServiceDescriptor, method: MethodDescriptor) -> Method:
    options = method.GetOptions()
    return Method(
        area=area,
        name=method.name,
        path=f"/{service.full_name}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        response=message_factory.GetMessageClass(method.output_type),
        client_streaming=bool(method.client_streaming),
        server_streaming=bool(method.server_streaming),
        idempotent=options.idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS,
        has_http=options.HasExtension(annotations_pb2.http),
    )
