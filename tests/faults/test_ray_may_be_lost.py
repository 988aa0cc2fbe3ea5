"""A Ray head that dies stops nothing that serves; nodes that hang are replaced; nodes come and go
with the queue. Only under a soak: Ray gives up a lost head after a minute, and Serve a node that
is idle, so this takes minutes."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from pathlib import Path

import pytest

from services.config import RaySettings
from tests.faults.load import Load
from tests.faults.ray_cluster import RayCluster, stores
from tests.services.commands.command_line import Up
from tests.services.local.running import gone
from tests.services.ray.ray_mesh import RayMesh, nodes_in, until

OUTAGE_S = 120.0
"""Twice as long as raylets and workers wait for a head."""
ENDED_S = 60.0
"""Ray's own processes end within this, once nobody needs them."""


@pytest.mark.timeout(600)
async def test_nodes_outlive_a_head_and_are_adopted_when_it_returns(tmp_path: Path) -> None:
    cluster = RayCluster(tmp_path / "cluster")
    async with stores(tmp_path / "stores") as store:
        mesh = RayMesh(
            tmp_path / "data",
            address=cluster.address,
            store=store,
            ray=RaySettings(replicas={"embedding": 3}, token_file=cluster.token),
        )
        try:
            await asyncio.to_thread(cluster.start)
            await mesh.start()
            await mesh.whole()
            nodes = mesh.nodes()
            async with mesh.loaded():
                await asyncio.to_thread(cluster.kill)
                await asyncio.sleep(OUTAGE_S)
                assert mesh.nodes() == nodes
                await asyncio.to_thread(cluster.stop)
                await asyncio.to_thread(cluster.start)

                async def adopted() -> bool:
                    return len(cluster.keepers()) == len(nodes) and mesh.kept()

                await until(adopted, 120, "the new Ray keeps them")
                assert mesh.nodes() == nodes
            processes = mesh.processes()
            await mesh.stop()
            assert mesh.alive(processes) == []
            assert mesh.nodes() == set()
            assert cluster.keepers() == []
        finally:
            await mesh.stop()
            await asyncio.to_thread(cluster.stop)


@pytest.mark.timeout(300)
async def test_nodes_that_hang_are_replaced_and_their_calls_go_elsewhere(tmp_path: Path) -> None:
    mesh = RayMesh(tmp_path / "data", ray=RaySettings(replicas={"embedding": 4}))
    await mesh.start()
    try:
        await mesh.whole()
        hung = set(sorted(mesh.nodes())[:2])
        async with mesh.loaded():
            for pid in hung:
                os.kill(pid, signal.SIGSTOP)

            async def replaced() -> bool:
                return len(mesh.nodes() - hung) == 4

            await until(replaced, 120, "others serve in their place")
        await mesh.whole()
        assert not mesh.nodes() & hung
    finally:
        await mesh.stop()


@pytest.mark.timeout(400)
async def test_nodes_follow_the_queue_up_and_down(tmp_path: Path) -> None:
    mesh = RayMesh(tmp_path / "data", ray=RaySettings(replicas={"embedding": "1..2"}))
    await mesh.start()
    numbers = itertools.count()
    try:
        assert len(mesh.nodes()) == 1
        async with mesh.client() as client:

            async def embed() -> None:
                texts = [f"{next(numbers)} " + "many words " * 40 for _ in range(32)]
                await client.embed_texts(texts, lane="bulk", timeout_s=120)

            async def two() -> bool:
                return len(mesh.nodes()) == 2

            async def one() -> bool:
                return len(mesh.nodes()) == 1

            async with Load(*[embed] * 6) as load:
                await until(two, 90, "a second node serves")
                await load.go_on(6, within_s=120)
            assert load.failures == []
            await until(one, 150, "the second node is given up")
            await client.embed_texts(["still there"])
    finally:
        await mesh.stop()


@pytest.mark.timeout(300)
def test_nothing_outlives_a_mesh_that_was_killed(tmp_path: Path) -> None:
    up = Up(tmp_path, "--ray", "--nodes", "embedding")
    try:
        nodes = nodes_in(tmp_path / "ragmesh")
        assert len(nodes) == 1
        everything = [*up.descendants(), *nodes]
        up.process.kill()
        assert gone(everything, ENDED_S) == []
    finally:
        up.close()
