"""The public face: every RPC has its method, both clients agree, and types say what is true."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import ragmesh

from tests.clients.either_client import EitherClient
from tests.clients.scripted_server import METHODS

PACKAGE = Path(ragmesh.__file__).parent
README = PACKAGE.parents[1] / "README.md"


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def methods(kind: type) -> dict[str, inspect.Signature]:
    return {
        name: inspect.signature(value)
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }


@pytest.mark.parametrize("kind", [ragmesh.Client, ragmesh.AsyncClient])
def test_every_rpc_has_its_method_and_the_rest_is_named_here(kind: type) -> None:
    more = set(methods(kind)) - {snake(name) for name in METHODS}
    assert more == {"wait_for_ingest_job", "replay_answer"}
    assert {snake(name) for name in METHODS} <= set(methods(kind))


def test_both_clients_take_the_same_arguments_and_give_the_same_results() -> None:
    waiting, awaited = methods(ragmesh.Client), methods(ragmesh.AsyncClient)
    assert list(waiting) == list(awaited)
    for name, signature in waiting.items():
        other = awaited[name]
        assert signature.parameters == other.parameters, name
        assert str(other.return_annotation).removeprefix("Async") == signature.return_annotation
    assert [name for name in waiting if "timeout_s" not in waiting[name].parameters] == []


def test_every_method_says_what_it_does() -> None:
    for name in methods(ragmesh.Client):
        text = getattr(ragmesh.Client, name).__doc__
        assert text and text == getattr(ragmesh.AsyncClient, name).__doc__, name


def test_public_names_are_sorted_and_say_where_they_are_imported_from() -> None:
    assert ragmesh.__all__ == sorted(ragmesh.__all__)
    public = {n for n in vars(ragmesh) if not n.startswith("_")} - {"api", "annotations"}
    assert public == set(ragmesh.__all__) - {"__version__"}
    for name in ragmesh.__all__:
        value = getattr(ragmesh, name)
        if isinstance(value, type):
            assert value.__module__ == "ragmesh", name


def test_every_error_class_is_public() -> None:
    def family(base: type[ragmesh.RagmeshError]) -> set[str]:
        return {base.__name__}.union(*(family(c) for c in base.__subclasses__()))

    assert family(ragmesh.RagmeshError) <= set(ragmesh.__all__)


def test_importing_it_brings_in_only_its_three_dependencies() -> None:
    show = "import sys, ragmesh; print(*{m.partition('.')[0] for m in sys.modules})"
    result = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True
    )
    foreign = set(result.stdout.split()) - set(sys.stdlib_module_names)
    installed = {name for name in foreign if not name.startswith("_")}
    # The rest are what installed .pth files and gRPC's compiled module bring by themselves.
    assert installed & {"numpy", "engine", "services", "httpx", "pydantic", "redis"} == set()
    assert {"ragmesh", "grpc", "google"} <= installed


@pytest.mark.parametrize(
    ("address", "named"), [("", "''"), ("http://localhost:50051", "http"), ("grpc://x:1", "grpc")]
)
def test_an_address_of_the_wrong_form_is_refused_with_the_right_ones(
    address: str, named: str
) -> None:
    with pytest.raises(ragmesh.InvalidField, match=f"{named}.*host:port"):
        ragmesh.Client(address)


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
async def test_a_call_without_an_end_is_refused(kind: str, timeout_s: float) -> None:
    with pytest.raises(ragmesh.InvalidField, match="timeout_s"):
        EitherClient(kind, "localhost:1", timeout_s=timeout_s)
    client = EitherClient(kind, "localhost:1")
    with pytest.raises(ragmesh.InvalidField, match="timeout_s"):
        await client.call("get_collection", "a", timeout_s=timeout_s)
    await client.close()


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        ("embed_texts", ("one string",), {}),
        ("get_points", ("a", "one string"), {}),
        ("delete_points", ("a",), {}),
        ("delete_points", ("a", ["p"]), {"filter": ragmesh.Field("x") == 1}),
        ("search_collection", ("a",), {}),
        ("search_collection", ("a", "x"), {"point_id": "p"}),
        ("search_collection", ("a", "x"), {"mode": "magic"}),
        ("search_collection", ("a", "x"), {"lane": "fast"}),
        ("create_document", ("a",), {}),
        ("create_document", ("a",), {"text": "x", "data": b"x"}),
        ("update_collection", ("a",), {}),
        ("upload_document", ("a", 5), {}),
        ("get_ingest_job", ("collections/a",), {}),
        ("search_collection", ("a", "x"), {"limit": 2**40}),
        ("search_collection", ("a", "\ud800"), {}),
        ("embed_texts", (["\ud800"],), {}),
        ("embed_texts", (["a"],), {"dimensions": -(2**40)}),
        ("rerank_passages", ("q", "one string"), {}),
        ("rerank_passages", ("q", ["a"] * 1_025), {}),
        ("rerank_passages", ("\ud800", ["a"]), {}),
        ("rerank_passages", ("q", ["\ud800"]), {}),
        ("rerank_passages", ("q", ["a"]), {"model": "collections/a"}),
    ],
)
async def test_arguments_that_cannot_be_meant_are_refused_before_sending(
    kind: str, method: str, arguments: tuple[object, ...], options: dict[str, object]
) -> None:
    client = EitherClient(kind, "localhost:1")
    with pytest.raises(ragmesh.InvalidField):
        await client.call(method, *arguments, **options)
    await client.close()


@pytest.mark.parametrize("method", ["list_collections", "list_points", "stream_answer"])
async def test_streams_and_lists_refuse_what_cannot_be_sent_too(kind: str, method: str) -> None:
    client = EitherClient(kind, "localhost:1")
    with pytest.raises(ragmesh.InvalidField, match="cannot be sent"):
        if method == "stream_answer":
            await client.collect(method, "\ud800", "a")
        else:
            await client.collect(method, *(["a"] * (method == "list_points")), page_size=2**40)
    await client.close()


def test_mypy_knows_every_result_and_refuses_what_is_wrong(tmp_path: Path) -> None:
    typed = Path(__file__).with_name("typed_use.py")
    command = [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(typed)]
    command += ["--config-file", "/dev/null", "--follow-imports", "silent"]
    command += ["--cache-dir", str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_the_readme_s_python_runs_as_far_as_names_go() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)
    assert blocks
    for block in blocks:
        compile(block, "README.md", "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT
        for name in re.findall(r"client\.(\w+)\(", block):
            assert hasattr(ragmesh.Client, name), name
        for name in re.findall(r"ragmesh\.([A-Z]\w+)", block):
            assert name in ragmesh.__all__, name
