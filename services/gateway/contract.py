"""What the gateway reads from the contract's descriptor: services, methods and HTTP rules."""

from __future__ import annotations

from dataclasses import dataclass

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import (
    FileDescriptorSet,
    MethodDescriptorProto,
    MethodOptions,
    ServiceDescriptorProto,
)

_VERBS = ("get", "put", "post", "delete", "patch")


@dataclass(frozen=True, slots=True)
class HttpRule:
    """One way to call a method over REST. `body` is `*`, a field's name or empty."""

    verb: str
    template: str
    body: str


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC. `safe` means that it may be repeated: it has no side effects."""

    name: str
    path: str
    input_type: str
    output_type: str
    client_streaming: bool
    server_streaming: bool
    safe: bool
    rules: tuple[HttpRule, ...]

    @property
    def streaming(self) -> bool:
        """Whether either side sends more than one message."""
        return self.client_streaming or self.server_streaming


@dataclass(frozen=True, slots=True)
class Service:
    """One service. `area` is what leases, clusters and `xds:///` targets call it."""

    area: str
    full_name: str
    methods: tuple[Method, ...]


@dataclass(frozen=True, slots=True)
class Contract:
    """All services, in the order of their areas."""

    services: tuple[Service, ...]

    @property
    def areas(self) -> tuple[str, ...]:
        """`chat`, `documents`, …"""
        return tuple(s.area for s in self.services)


def read_contract(descriptor: bytes) -> Contract:
    """Reads a serialized FileDescriptorSet. Services outside `<root>.<area>.v<n>` packages (such
    as those of google.*) do not exist in it. Raises google.protobuf's DecodeError."""
    services = []
    for file in FileDescriptorSet.FromString(descriptor).file:
        for service in file.service:
            area = file.package.split(".")[-2]
            services.append(_service(area, file.package, service))
    return Contract(tuple(sorted(services, key=lambda s: s.area)))


def _service(area: str, package: str, service: ServiceDescriptorProto) -> Service:
    full_name = f"{package}.{service.name}"
    return Service(area, full_name, tuple(_method(full_name, m) for m in service.method))


def _method(service: str, method: MethodDescriptorProto) -> Method:
    return Method(
        name=method.name,
        path=f"/{service}/{method.name}",
        input_type=method.input_type.lstrip("."),
        output_type=method.output_type.lstrip("."),
        client_streaming=method.client_streaming,
        server_streaming=method.server_streaming,
        safe=method.options.idempotency_level == MethodOptions.NO_SIDE_EFFECTS,
        rules=_rules(method),
    )


def _rules(method: MethodDescriptorProto) -> tuple[HttpRule, ...]:
    rule = method.options.Extensions[annotations_pb2.http]
    found: list[HttpRule] = []
    for one in (rule, *rule.additional_bindings):
        found += [HttpRule(v, t, one.body) for v in _VERBS if (t := getattr(one, v))]
    return tuple(found)
