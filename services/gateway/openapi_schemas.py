"""JSON schemas of the contract's messages, as proto3 JSON writes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

_F = FieldDescriptorProto
_SCALARS: dict[int, dict[str, Any]] = {
    _F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _F.TYPE_FLOAT: {"type": "number", "format": "float"},
    _F.TYPE_INT32: {"type": "integer", "format": "int32"},
    _F.TYPE_SINT32: {"type": "integer", "format": "int32"},
    _F.TYPE_SFIXED32: {"type": "integer", "format": "int32"},
    _F.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    _F.TYPE_FIXED32: {"type": "integer", "format": "int64", "minimum": 0},
    # JSON numbers lose digits beyond 2^53, so 64-bit integers are strings.
    _F.TYPE_INT64: {"type": "string", "format": "int64"},
    _F.TYPE_SINT64: {"type": "string", "format": "int64"},
    _F.TYPE_SFIXED64: {"type": "string", "format": "int64"},
    _F.TYPE_UINT64: {"type": "string", "format": "uint64"},
    _F.TYPE_FIXED64: {"type": "string", "format": "uint64"},
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, dict[str, Any]] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Names of fields, joined by commas.",
    },
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {"description": "Any JSON value."},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
    "google.protobuf.Empty": {"type": "object"},
    "google.protobuf.Any": {
        "type": "object",
        "required": ["@type"],
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}
_MESSAGE_FIELD, _ENUM_VALUE = 2, 2
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_NESTED_MESSAGE, _NESTED_ENUM = 3, 4
_SERVICE_METHOD = 2
"""Field numbers of descriptor.proto, which the paths of comments are made of."""


class Schemas:
    """Finds messages, enums and comments by full name, and remembers what was referred to."""

    def __init__(self, files: FileDescriptorSet) -> None:
        self._messages: dict[str, DescriptorProto] = {}
        self._enums: dict[str, EnumDescriptorProto] = {}
        self._comments: dict[str, str] = {}
        self._wanted: list[str] = []
        for file in files.file:
            self._read(file)

    def message(self, full_name: str) -> DescriptorProto:
        """Raises KeyError where the descriptor has no such message."""
        return self._messages[full_name]

    def comment(self, full_name: str) -> str:
        """The comment in one line; empty where there is none."""
        return self._comments.get(full_name, "")

    def reference(self, full_name: str) -> dict[str, Any]:
        """A reference to the message's or enum's component, which will be made."""
        if full_name not in self._wanted:
            self._wanted.append(full_name)
        return {"$ref": f"#/components/schemas/{full_name}"}

    def components(self) -> dict[str, Any]:
        """Everything that was referred to, and what that refers to, by name."""
        made: dict[str, Any] = {}
        for name in self._wanted:  # grows while it is walked
            if name in self._enums:
                made[name] = self._enum(name)
            else:
                made[name] = self.object(name, self._messages[name])
        return dict(sorted(made.items()))

    def object(
        self,
        full_name: str,
        message: DescriptorProto,
        without: frozenset[str] | set[str] = frozenset(),
    ) -> dict[str, Any]:
        """A message as an object. Unknown members are allowed because the gateway ignores them."""
        fields = [f for f in message.field if f.name not in without]
        schema: dict[str, Any] = {"type": "object"}
        if comment := self.comment(full_name):
            schema["description"] = comment
        if fields:
            schema["properties"] = {f.json_name: self.field(full_name, f) for f in fields}
        if exclusive := list(self._oneofs(message, fields)):
            schema["allOf"] = exclusive
        return schema

    def field(self, owner: str, field: FieldDescriptorProto) -> dict[str, Any]:
        """A field's schema with its description."""
        schema = self._repeated(field)
        if comment := self.comment(f"{owner}.{field.name}"):
            schema = {**schema, "description": comment}
        return schema

    def of_type(self, field: FieldDescriptorProto) -> dict[str, Any]:
        """The schema of one value of a field."""
        name = field.type_name.lstrip(".")
        if field.type == _F.TYPE_ENUM:
            return self.reference(name)
        if field.type == _F.TYPE_MESSAGE:
            return dict(_WELL_KNOWN[name]) if name in _WELL_KNOWN else self.reference(name)
        return dict(_SCALARS[field.type])

    def _repeated(self, field: FieldDescriptorProto) -> dict[str, Any]:
        if field.label != _F.LABEL_REPEATED:
            return self.of_type(field)
        entry = self._messages.get(field.type_name.lstrip("."))
        if entry is not None and entry.options.map_entry:
            return {"type": "object", "additionalProperties": self.of_type(entry.field[1])}
        return {"type": "array", "items": self.of_type(field)}

    def _oneofs(
        self, message: DescriptorProto, fields: list[FieldDescriptorProto]
    ) -> Iterator[dict[str, Any]]:
        """At most one member of each oneof."""
        for number in range(len(message.oneof_decl)):
            names = [
                f.json_name
                for f in fields
                if f.HasField("oneof_index") and f.oneof_index == number and not f.proto3_optional
            ]
            if len(names) > 1:
                each = [{"required": [name]} for name in names]
                yield {"oneOf": [*each, {"not": {"anyOf": each}}]}

    def _enum(self, full_name: str) -> dict[str, Any]:
        enum = self._enums[full_name]
        lines = [self.comment(full_name)] if self.comment(full_name) else []
        scope = full_name.rpartition(".")[0]
        lines += [
            f"- `{value.name}`: {comment}"
            for value in enum.value
            if (comment := self.comment(f"{scope}.{value.name}"))
        ]
        schema: dict[str, Any] = {"type": "string", "enum": [v.name for v in enum.value]}
        if lines:
            schema["description"] = "\n".join(lines)
        return schema

    def _read(self, file: FileDescriptorProto) -> None:
        located = {tuple(at.path): at.leading_comments for at in file.source_code_info.location}

        def note(name: str, path: tuple[int, ...]) -> None:
            if text := " ".join(located.get(path, "").split()):
                self._comments[name] = text

        def read_enum(scope: str, path: tuple[int, ...], enum: EnumDescriptorProto) -> None:
            self._enums[f"{scope}.{enum.name}"] = enum
            note(f"{scope}.{enum.name}", path)
            for number, value in enumerate(enum.value):
                note(f"{scope}.{value.name}", (*path, _ENUM_VALUE, number))

        def read_message(scope: str, path: tuple[int, ...], message: DescriptorProto) -> None:
            full_name = f"{scope}.{message.name}"
            self._messages[full_name] = message
            note(full_name, path)
            for number, field in enumerate(message.field):
                note(f"{full_name}.{field.name}", (*path, _MESSAGE_FIELD, number))
            for number, nested in enumerate(message.nested_type):
                read_message(full_name, (*path, _NESTED_MESSAGE, number), nested)
            for number, enum in enumerate(message.enum_type):
                read_enum(full_name, (*path, _NESTED_ENUM, number), enum)

        for number, message in enumerate(file.message_type):
            read_message(file.package, (_FILE_MESSAGE, number), message)
        for number, enum in enumerate(file.enum_type):
            read_enum(file.package, (_FILE_ENUM, number), enum)
        for number, service in enumerate(file.service):
            path = (_FILE_SERVICE, number)
            note(f"{file.package}.{service.name}", path)
            for index, method in enumerate(service.method):
                full_name = f"{file.package}.{service.name}.{method.name}"
                note(full_name, (*path, _SERVICE_METHOD, index))
