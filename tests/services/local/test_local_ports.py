"""Ports are free, different, and the same after a restart."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from engine.errors import FailedPrecondition
from services.local.ports import choose_ports, is_free

NAMES = {"gateway": 0, "admin": 0, "node": 0, "metrics": 0}


def listen(port: int = 0) -> socket.socket:
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    server.listen()
    return server


def test_ports_differ_can_be_listened_on_and_stay_over_restarts(tmp_path: Path) -> None:
    first = choose_ports(NAMES, tmp_path / "ports.json")
    assert len(set(first.values())) == len(NAMES)
    for port in first.values():
        assert is_free(port)
        listen(port).close()
    assert choose_ports(NAMES, tmp_path / "ports.json") == first


def test_only_a_port_that_was_taken_moves(tmp_path: Path) -> None:
    first = choose_ports(NAMES, tmp_path / "ports.json")
    with listen(first["admin"]):
        second = choose_ports(NAMES, tmp_path / "ports.json")
    changed = {name for name in NAMES if first[name] != second[name]}
    assert changed == {"admin"}
    assert second["admin"] not in first.values()


def test_a_port_asked_for_is_given_or_refused_never_replaced(tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    free = choose_ports({"a": 0}, memory)["a"]
    assert choose_ports({"gateway": free, "node": 0}, memory)["gateway"] == free
    with listen() as server:
        taken = server.getsockname()[1]
        with pytest.raises(FailedPrecondition) as caught:
            choose_ports({"gateway": taken}, memory)
    assert caught.value.metadata["port"] == str(taken)


@pytest.mark.parametrize("damage", ["", "[]", "{", '{"gateway": "x"}', '{"gateway": 700000}'])
def test_a_damaged_memory_is_forgotten(tmp_path: Path, damage: str) -> None:
    (tmp_path / "ports.json").write_text(damage)
    assert is_free(choose_ports({"gateway": 0}, tmp_path / "ports.json")["gateway"])
