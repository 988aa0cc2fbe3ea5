"""What can be checked of deploy/ without a container engine."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

import pytest
import yaml

from services.local.gateway import split_address
from tests.house import command_line
from tests.house.check import ROOT

DOCKERFILE: Final = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: Final[dict[str, Any]] = yaml.safe_load(
    (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
)
SERVICES: Final[dict[str, dict[str, Any]]] = COMPOSE["services"]
OURS: Final = sorted(name for name, s in SERVICES.items() if s["image"].startswith("ragmesh:"))
VARIABLES: Final = command_line.settings()

KNOWN_KEYS: Final = {
    *("build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image"),
    *("ports", "read_only", "restart", "security_opt", "stop_grace_period", "tmpfs", "volumes"),
}
"""The keys of a service in the Compose specification that are used here."""


def instructions() -> list[tuple[str, str]]:
    """Each instruction of the Dockerfile with its arguments on one line."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ")
    lines = (line.strip() for line in text.splitlines())
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line]


def environment_of_the_image() -> dict[str, str]:
    """Every variable that the Dockerfile sets."""
    pairs = (shlex.split(rest) for word, rest in instructions() if word == "ENV")
    return dict(pair.split("=", 1) for line in pairs for pair in line)


def test_everything_that_the_image_copies_exists() -> None:
    for word, rest in instructions():
        *sources, _ = [part for part in rest.split() if not part.startswith("--")] or [""]
        if word == "COPY" and "--from=" not in rest:
            missing = [source for source in sources if not (ROOT / source).exists()]
            assert not missing, missing


def test_the_build_context_has_what_the_image_copies_and_little_else() -> None:
    kept = {
        line[1:]
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and "--from=" not in rest
        for source in rest.split()[:-1]
    }
    assert copied == kept


def test_each_target_runs_as_an_ordinary_user() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    names = {stage.split()[2]: stage for stage in stages}
    assert {"server", "cuda"} <= names.keys()
    for target in ("server", "cuda"):
        assert names[target].startswith("runtime AS ")
        assert "USER" not in names[target]
    user = re.findall(r"^USER (\d+):(\d+)$", names["runtime"], re.M)
    assert user
    assert all(int(uid) >= 10_000 for uid, _ in user)


def test_images_have_versions() -> None:
    bases = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    stages = {rest.split()[2] for word, rest in instructions() if word == "FROM"}
    images = [base for base in bases if base not in stages]
    images += [service["image"] for service in SERVICES.values()]
    for image in images:
        _, _, tag = image.rpartition(":")
        assert re.match(r"\d", tag), f"{image} floats"


def test_installed_versions_are_checked_by_hash() -> None:
    installs = re.findall(r"uv pip install[^&]*-r \S+", DOCKERFILE.replace("\\\n", " "))
    assert len(installs) == 2
    assert all("--require-hashes" in line and "--no-deps" in line for line in installs)


def test_every_variable_of_image_and_compose_is_a_setting() -> None:
    ours = [environment_of_the_image(), *(SERVICES[name].get("environment", {}) for name in OURS)]
    unknown = [
        name
        for variables in ours
        for name in variables
        if name.startswith("RAGMESH_") and name not in VARIABLES
    ]
    assert not unknown, f"nothing reads {unknown}"


@pytest.mark.parametrize("name", OURS)
def test_compose_starts_ragmesh_with_a_command_line_that_it_takes(name: str) -> None:
    assert not command_line.refused(SERVICES[name]["command"])


def test_a_flag_that_does_not_exist_would_be_refused() -> None:
    assert "No such option" in command_line.refused(["serve", "--port", "1"])


@pytest.mark.parametrize("name", SERVICES)
def test_compose_uses_keys_that_exist(name: str) -> None:
    assert not SERVICES[name].keys() - KNOWN_KEYS
    assert (
        not COMPOSE.keys()
        - {"name", "services", "volumes"}
        - {key for key in COMPOSE if key.startswith("x-")}
    )


@pytest.mark.parametrize("name", OURS)
def test_containers_cannot_write_their_file_system_or_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert any(volume.endswith(":/var/lib/ragmesh") for volume in service["volumes"])


def test_volumes_and_dependencies_are_declared_and_files_exist() -> None:
    for name, service in SERVICES.items():
        assert not set(service.get("depends_on", {})) - SERVICES.keys()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                assert (ROOT / "deploy" / source).exists(), f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"


def test_only_the_gateway_is_published_and_on_loopback() -> None:
    published = {name: s["ports"] for name, s in SERVICES.items() if "ports" in s}
    assert published == {"gateway": ["127.0.0.1:8080:8080"]}


def test_nodes_advertise_a_name_and_port_that_others_reach() -> None:
    hosted = []
    for name in OURS:
        words = SERVICES[name]["command"]
        if words[0] != "serve":
            continue
        host, port = split_address(words[words.index("--advertise") + 1])
        _, listens = split_address(SERVICES[name]["environment"]["RAGMESH_NODE__LISTEN"])
        assert (host, port) == (name, listens)
        hosted += words[words.index("--services") + 1].split(",")
    assert sorted(hosted) == sorted(
        ["embedding", "retrieval", "retrieval", "documents", "memory", "generation", "chat"]
    )


def test_draining_has_time_to_end_before_the_container_is_killed() -> None:
    from services.config import NodeSettings

    for name in OURS:
        grace_s = float(SERVICES[name]["stop_grace_period"].removesuffix("s"))
        assert grace_s > NodeSettings().drain_grace_s


def test_the_example_names_every_secret_that_compose_asks_for() -> None:
    text = (ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8")
    asked = set(re.findall(r"\$\{(\w+)", text))
    example = (ROOT / "deploy" / "compose.env.example").read_text(encoding="utf-8")
    assert asked == set(re.findall(r"^(\w+)=$", example, re.M))
