"""What keeps nodes from Ray is said at once, in a sentence with the next step."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition, InvalidField
from services.config import Settings, StoreSettings
from services.local.ray_parts import check_ray
from tests.services.commands.command_line import failure, run

STORES = ("--postgres-url", "postgresql://elsewhere/db", "--redis-url", "redis://elsewhere")
SOON_S = 30.0


def up(tmp_path: Path, *words: str) -> dict[str, object]:
    """The error of `ragmesh up` with these words."""
    return failure(run(tmp_path, "up", "--json", "--data-dir", str(tmp_path / "data"), *words))


def test_an_address_with_embedded_stores_is_refused_with_the_flags(tmp_path: Path) -> None:
    error = up(tmp_path, "--ray", "127.0.0.1:6379")
    assert error["type"] == "FailedPrecondition"
    assert "--postgres-url and --redis-url" in str(error["message"])
    error = up(tmp_path, "--ray", "127.0.0.1:6379", *STORES[:2])
    assert "--redis-url is missing" in str(error["message"])


def test_an_address_that_nobody_answers_is_refused_soon(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: a connection is refused
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        begin_s = time.monotonic()
        error = up(tmp_path, "--ray", address, *STORES)
    assert time.monotonic() - begin_s < SOON_S
    assert error["type"] == "ServiceUnavailable"
    assert address in str(error["message"])
    assert "Traceback" not in str(error["message"])


@pytest.mark.parametrize("address", ["nonsense", ":6379", "host:port"])
def test_what_is_no_address_is_refused_by_name(address: str) -> None:
    store = StoreSettings.model_validate(
        {"postgres_url": "postgresql://x", "redis_url": "redis://x"}
    )
    with pytest.raises(InvalidField, match="host:port"):
        check_ray(Settings(store=store), address)


def test_without_ray_the_sentence_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FailedPrecondition) as refused:
        check_ray(Settings(), "")
    assert "pip install 'ragmesh-server[ray]'" in refused.value.message
    assert "uv sync" in refused.value.message


def test_amounts_for_ray_go_with_ray(tmp_path: Path) -> None:
    done = run(tmp_path, "up", "--ray-replicas", "embedding=2")
    assert done.returncode == 2
    assert "--ray" in done.stderr


def test_an_order_to_a_mesh_that_does_not_run_says_where_it_looked(tmp_path: Path) -> None:
    error = failure(run(tmp_path, "ray", "roll", "--json", "--data-dir", str(tmp_path / "none")))
    assert "ragmesh up --ray" in error["message"]
    assert str(tmp_path) in error["message"]
