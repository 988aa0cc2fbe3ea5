"""The contract keeps its own rules, and what is generated from it is current."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from packaging.requirements import Requirement

from services.rpc.methods import Method, methods, services
from tests.house import generated
from tests.house.check import ROOT, breaking, tool

METHODS: Final = sorted(methods().values(), key=lambda method: method.path)
API: Final = ROOT / "clients" / "python" / "src" / "ragmesh" / "api"


def http_rules() -> list[tuple[str, str, str]]:
    """Verb, template and RPC of every HTTP binding."""
    found = []
    for service in services().values():
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for each in (rule, *rule.additional_bindings):
                verb = each.WhichOneof("pattern")
                if verb:
                    found.append((verb, getattr(each, verb), method.full_name))
    return found


def messages() -> list[Any]:
    """Every request and response of the contract."""
    return [each.DESCRIPTOR for m in METHODS for each in (m.request, m.response)]


def enums() -> list[EnumDescriptor]:
    """Every enum that a message of the contract uses."""
    found: dict[str, EnumDescriptor] = {}
    waiting = messages()
    seen: set[str] = set()
    while waiting:
        message = waiting.pop()
        if message.full_name in seen or not message.full_name.startswith("ragmesh."):
            continue
        seen.add(message.full_name)
        for field in message.fields:
            if field.enum_type is not None:
                found[field.enum_type.full_name] = field.enum_type
            if field.message_type is not None:
                waiting.append(field.message_type)
    return [enum for enum in found.values() if enum.full_name.startswith("ragmesh.")]


def test_generated_files_are_current() -> None:
    stale = generated.stale()
    assert not stale, f"uv run poe gen\n{stale}"


def test_nothing_released_is_broken() -> None:
    assert not breaking()


def test_a_renamed_field_would_be_reported(tmp_path: Path) -> None:
    """The check can fail: an image whose field has another name than the released one."""
    released = (ROOT / "protos" / "released.binpb").read_bytes()
    other = tmp_path / "other.binpb"
    other.write_bytes(released.replace(b"\x0adisplay_name", b"\x0adisplay_nome"))
    if other.read_bytes() == released:
        other.write_bytes(released.replace(b"request_id", b"request_ix"))
    wrong = tool(
        *("buf", "breaking", str(other), "--against", str(ROOT / "protos" / "released.binpb")),
        *("--config", '{"version": "v2", "breaking": {"use": ["WIRE_JSON"]}}'),
    )()
    assert "changed name" in wrong


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_unary_rpc_and_server_stream_has_a_rest_path(method: Method) -> None:
    assert method.has_http is not method.client_streaming


def test_no_two_rpcs_share_a_verb_and_a_template() -> None:
    """Envoy would answer 404 for both without a word."""
    plain = [(verb, re.sub(r"\{\w+=([^}]*)\}", r"\1", path)) for verb, path, _ in http_rules()]
    assert len(plain) == len(set(plain)), sorted(http_rules())
    assert all(path.startswith("/v1/") for _, path in plain)


def test_requests_and_responses_belong_to_one_rpc() -> None:
    for method in METHODS:
        assert method.request.DESCRIPTOR.name == f"{method.name}Request"
        assert method.response.DESCRIPTOR.name == f"{method.name}Response"


@pytest.mark.parametrize("enum", enums(), ids=lambda enum: enum.name)
def test_the_zero_of_an_enum_says_nothing(enum: EnumDescriptor) -> None:
    zero = enum.values_by_number[0]
    assert zero.name.endswith("_UNSPECIFIED")


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.name.startswith("List")], ids=lambda method: method.name
)
def test_every_list_pages(method: Method) -> None:
    assert {"page_size", "page_token"} <= set(method.request.DESCRIPTOR.fields_by_name)
    assert "next_page_token" in method.response.DESCRIPTOR.fields_by_name


@pytest.mark.parametrize(
    "method",
    [m for m in METHODS if m.name.startswith(("Create", "Upload", "Upsert", "DeletePoints"))],
    ids=lambda method: method.name,
)
def test_creates_and_writes_can_be_repeated(method: Method) -> None:
    request = method.request.DESCRIPTOR
    header = request.fields_by_name.get("header")
    fields = header.message_type.fields if header and header.message_type else request.fields
    assert "request_id" in [field.name for field in fields]


def test_reads_say_that_they_have_no_side_effects() -> None:
    """The SDK retries what says so."""
    reads = [m for m in METHODS if m.name.startswith(("Get", "List", "Count", "Search", "Watch"))]
    assert [m.name for m in reads if not m.idempotent] == []
    writes = [m for m in METHODS if m.name.startswith(("Create", "Update", "Delete", "Up"))]
    assert [m.name for m in writes if m.idempotent] == []


def test_names_and_collections_are_strings_where_a_path_takes_them() -> None:
    for service in services().values():
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            verb = rule.WhichOneof("pattern")
            for name in re.findall(r"\{(\w+)=", getattr(rule, verb) if verb else ""):
                field = method.input_type.fields_by_name[name]
                assert field.type == FieldDescriptor.TYPE_STRING


def test_the_sdk_takes_the_runtimes_that_its_stubs_take() -> None:
    """Stubs refuse runtimes older than their generator when they are imported."""
    text = (ROOT / "clients/python/pyproject.toml").read_text(encoding="utf-8")
    floors = {
        Requirement(line).name: next(iter(Requirement(line).specifier)).version
        for line in re.findall(r'^    "([a-z]+>=[^"]+)"', text, re.M)
    }
    stub = (API / "retrieval/v1/retrieval_service_pb2.py").read_text(encoding="utf-8")
    (protobuf,) = re.findall(r"# Protobuf Python Version: (\S+)", stub)
    grpc_stub = API / "retrieval/v1/retrieval_service_pb2_grpc.py"
    (grpcio,) = re.findall(r"GENERATED_VERSION = '([^']+)'", grpc_stub.read_text(encoding="utf-8"))
    assert floors == {"grpcio": grpcio, "protobuf": protobuf}
