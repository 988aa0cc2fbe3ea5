"""Two tenants who use the same ids at the same time never see each other's points."""

from __future__ import annotations

import random

import ragmesh
from ragmesh import AsyncClient, Point

from tests.faults.faulty_mesh import FaultyMesh
from tests.faults.load import Caller, Load

CALLS = 400


async def test_no_tenant_sees_anothers_hits(mesh: FaultyMesh) -> None:
    clients = {tenant: mesh.client(tenant=tenant) for tenant in ("red", "blue")}
    for tenant, client in clients.items():
        await client.create_collection("shared-name", dimensions=2)
        await client.upsert_points("shared-name", [_point(tenant, n) for n in range(50)])
    callers = [_caller(client, tenant, n) for tenant, client in clients.items() for n in range(3)]
    async with Load(*callers, pause_s=0) as load:
        await load.go_on(CALLS)
    for client in clients.values():
        await client.delete_collection("shared-name")
        await client.close()
    assert load.failures == []


def _point(tenant: str, number: int) -> Point:
    return Point(f"p{number}", [1, number], text=f"said by {tenant}", payload={"tenant": tenant})


def _caller(client: AsyncClient, tenant: str, caller: int) -> Caller:
    """Writes, deletes and makes anew, and checks whose every hit is."""
    random_ = random.Random(f"{tenant} {caller}")

    async def call() -> None:
        number = random_.randrange(50)
        what = random_.randrange(8)
        if what == 0:
            await client.upsert_points("shared-name", [_point(tenant, number)])
        elif what == 1:
            await client.delete_points("shared-name", [f"p{number}"])
        elif what == 2:
            found = await client.get_points("shared-name", [f"p{number}"])
            assert {point.payload["tenant"] for point in found} <= {tenant}
        elif what == 3:
            own = f"only-{tenant}-{random_.getrandbits(32)}"
            await client.create_collection(own, dimensions=2)
            assert own in {c.name.partition("/")[2] async for c in client.list_collections()}
            other = own.replace("red", "blue") if tenant == "red" else own.replace("blue", "red")
            try:
                await client.get_collection(other)
            except ragmesh.CollectionNotFound:
                await client.delete_collection(own)
            else:
                raise AssertionError(f"{tenant} sees {other}")
        else:
            vector = None if what % 2 else [1.0, float(number)]
            result = await client.search_collection(
                "shared-name", None if vector else "said red blue", vector=vector, limit=50
            )
            assert {hit.point.payload["tenant"] for hit in result.hits} <= {tenant}

    return call
