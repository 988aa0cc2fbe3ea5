"""Nodes on Ray serve like any other, and what dies, hangs or is replaced costs no caller a call."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import psutil
import pytest
from ragmesh import AsyncClient

from services.app import Node
from services.config import ModelSettings, NodeSettings, Settings
from tests.services.commands.command_line import run
from tests.services.ray.ray_mesh import EMBEDDING, MODELS, RayMesh, until

BACK_S = 20.0
"""What dies is back within this."""
TEXTS = ("Vitamin D and bone density.", "Zinc shortens the common cold.", "x")


async def test_they_answer_as_a_node_without_ray_does(mesh: RayMesh, tmp_path: Path) -> None:
    own = Node(
        Settings(
            data_dir=tmp_path,
            node=NodeSettings(services=EMBEDDING, listen="127.0.0.1:0", metrics_listen=""),
            models=ModelSettings(cache_dir=MODELS),
        )
    )
    await own.open()
    await own.serve()
    async with AsyncClient(own.address) as client:
        expected = await client.embed_texts(TEXTS)
    await own.drain()
    await own.close()
    async with mesh.client() as client:
        answer = await client.embed_texts(TEXTS)
    assert answer.fingerprint == expected.fingerprint
    np.testing.assert_allclose(answer.vectors, expected.vectors, atol=1e-5)


async def test_no_door_is_open_to_other_machines_without_the_token(mesh: RayMesh) -> None:
    """Ray's own are on loopback; the one that Serve opens for calls between replicas, which
    nobody uses here, cannot be, and asks for the token."""
    below = mesh.part("ray-head").children(recursive=True)
    nodes = [psutil.Process(pid) for pid in mesh.nodes()]
    listening = [
        (process.name(), connection.laddr.ip.removeprefix("::ffff:"), connection.laddr.port)
        for process in [*below, *nodes]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) > 6
    beyond = [(name, port) for name, ip, port in listening if ip != "127.0.0.1"]
    assert {name[:15] for name, _ in beyond} <= {"ray::ServeRepli"}
    for _, port in beyond:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            call: Any = channel.unary_unary("/ray.serve.ASGIService/HandleRequest")
            with pytest.raises(grpc.RpcError) as refused:
                call(b"", timeout=5)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_a_killed_node_is_back_in_seconds(mesh: RayMesh) -> None:
    async with mesh.loaded():
        dead = min(mesh.nodes())
        os.kill(dead, signal.SIGKILL)

        async def back() -> bool:
            nodes = mesh.nodes()
            return len(nodes) == mesh.replicas and dead not in nodes

        assert await until(back, 60, "another node serves") < BACK_S


async def test_a_node_whose_worker_was_killed_serves_on_and_is_adopted(mesh: RayMesh) -> None:
    nodes = mesh.nodes()
    async with mesh.loaded():
        worker = mesh.workers()[0]
        worker.kill()
        worker.wait(5)
        assert not mesh.kept()

        async def adopted() -> bool:
            return mesh.kept()

        await until(adopted, 30, "another worker keeps it")
        assert mesh.nodes() == nodes


async def test_a_roll_replaces_every_node_and_fails_no_call(mesh: RayMesh, tmp_path: Path) -> None:
    before = mesh.nodes()
    async with mesh.loaded():
        words = ("ray", "roll", "--data-dir", str(mesh.data_dir), "--json")
        done = await asyncio.to_thread(run, tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["seconds"] > 0
    after = mesh.nodes()
    assert len(after) == mesh.replicas
    assert not after & before
