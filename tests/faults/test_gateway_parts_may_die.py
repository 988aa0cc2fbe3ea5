"""The control plane may die: traffic goes on, and endpoints follow again when it is back. Envoy
may die: it is started again, and clients that try again go on."""

from __future__ import annotations

import httpx

from tests.faults.faulty_mesh import FaultyMesh, until
from tests.faults.given import FIRST, searches
from tests.faults.load import Load


async def test_no_request_fails_while_there_is_no_control_plane(mesh: FaultyMesh) -> None:
    alone = {mesh.address("node-1")}

    async def one_serves() -> bool:
        return await mesh.endpoints() == alone

    async with searches(mesh, "control") as callers, Load(*callers) as load:
        dead = mesh.kill("control-plane")
        await load.go_on(20)
        await mesh.lives_again("control-plane", dead)
        await mesh.supervisor.stop_part("control-plane")
        await load.go_on(20)
        await mesh.supervisor.start_part("control-plane")
        await load.go_on(20)
        # It follows still: a node that goes is taken out, and one that comes is put in.
        await mesh.supervisor.stop_part("node-2")
        await until(one_serves, 5, "the stopped node is taken out")
        await mesh.supervisor.start_part("node-2")
        await until(mesh.both_serve, 10, "the started node is put in")
        await load.go_on(20)
    assert load.failures == []


async def test_clients_go_on_after_envoy_died(mesh: FaultyMesh) -> None:
    async with searches(mesh, "door"), mesh.client() as client:
        dead = mesh.kill("envoy")
        await mesh.lives_again("envoy", dead)
        found = await client.search_collection("door", vector=[1, 0])
    assert found.hits[0].point.id == FIRST


async def test_uploads_go_on_after_the_bridge_died(mesh: FaultyMesh) -> None:
    url = f"http://{mesh.address('gateway')}"
    async with mesh.client() as client, httpx.AsyncClient(base_url=url) as http:
        await client.create_collection("uploads")
        path = "/v1/collections/uploads/documents:upload"
        dead = mesh.kill("bridge")
        gone = await http.post(path, content=b"# One", params={"display_name": "one.md"})
        await mesh.lives_again("bridge", dead)
        again = await http.post(path, content=b"# Two", params={"display_name": "two.md"})
        documents = [document async for document in client.list_documents("uploads")]
    if gone.status_code != 200:  # where it was not back already
        assert gone.status_code == 503 and int(gone.headers["retry-after"]) >= 1
        assert gone.json()["details"][0]["reason"] == "SERVICE_UNAVAILABLE"
    assert again.status_code == 200, again.text
    assert "two.md" in {document.display_name for document in documents}
