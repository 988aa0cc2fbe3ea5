"""A tenant sees and touches only its own rows, whatever the statement says."""

from __future__ import annotations

import psycopg
import pytest

from engine.errors import CollectionNotFound, FailedPrecondition
from services.store.collections import get_collection, list_collections
from services.store.points import apply_batch, count_points
from services.store.requests import recall, remember
from services.store.store import Store
from tests.services.store.stored import Database, make_collection, point

pytestmark = pytest.mark.asyncio

_TENANT_TABLES = (
    "SELECT c.relname, c.relrowsecurity AND c.relforcerowsecurity, "
    "(SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid) "
    "FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace "
    "AND c.relname <> 'schema_migrations' ORDER BY 1"
)


async def test_every_table_has_forced_row_security(store: Store) -> None:
    async with store.system() as tx:
        tables = await tx.rows(_TENANT_TABLES)
    assert len(tables) == 31
    assert all(forced and policies == 1 for _, forced, policies in tables), tables


async def test_two_tenants_with_the_same_ids_never_meet(store: Store) -> None:
    for tenant in ("one", "two"):
        collection = await make_collection(store, tenant, "same")
        async with store.transaction(tenant) as tx:
            await apply_batch(tx, collection, [point("same", tenant), point(tenant, tenant)])
        async with store.transaction(tenant) as tx:
            await remember(tx, "same", "Method", b"x" * 32, tenant.encode())
    for tenant in ("one", "two"):
        async with store.transaction(tenant) as tx:
            collection = await get_collection(tx, "same")
            assert [found.tenant for found in await list_collections(tx)] == [tenant]
            assert await count_points(tx, collection) == 2
            assert await recall(tx, "same", "Method", b"x" * 32) == tenant.encode()
            # without any WHERE: row security alone
            texts = await tx.rows("SELECT DISTINCT text FROM points")
            assert texts == [(tenant,)]
            assert await tx.run("UPDATE points SET text = text") == 2
            tenants = await tx.rows(
                "SELECT tenant FROM heads UNION SELECT tenant FROM commits "
                "UNION SELECT tenant FROM collections UNION SELECT tenant FROM requests"
            )
            assert tenants == [(tenant,)]


async def test_a_tenant_cannot_write_a_row_of_another(store: Store) -> None:
    other = await make_collection(store, "two", "c")
    async with store.transaction("one") as tx:
        with pytest.raises(CollectionNotFound):
            await apply_batch(tx, other, [point("p", "stolen")])
    with pytest.raises(RuntimeError, match="42501"):
        async with store.transaction("one") as tx:
            await tx.run(
                "INSERT INTO requests (tenant, request_id, method, payload_sha256, response) "
                "VALUES ('two', 'r', 'm', '', '')"
            )
    async with store.system() as tx:
        assert await count_points(tx, other) == 0
        assert await tx.rows("SELECT 1 FROM requests") == []


async def test_a_connection_without_a_tenant_sees_nothing(store: Store, database: Database) -> None:
    await make_collection(store, "one", "c")
    with psycopg.connect(database.url) as connection:
        assert connection.execute("SELECT * FROM collections").fetchall() == []


async def test_the_next_transaction_of_a_connection_does_not_inherit_the_tenant(
    database: Database,
) -> None:
    store = await Store.open(database.url, connections_max=1)
    try:
        await make_collection(store, "one", "c")
        async with store.system() as tx:
            assert len(await tx.rows("SELECT 1 FROM collections")) == 1
        async with store.transaction("two") as tx:
            assert await tx.rows("SELECT 1 FROM collections") == []
    finally:
        await store.close()


@pytest.mark.parametrize("tenant", ["", "*"])
async def test_a_transaction_needs_one_tenant(store: Store, tenant: str) -> None:
    with pytest.raises(ValueError, match="no tenant"):
        async with store.transaction(tenant):
            pass


async def test_a_role_that_bypasses_row_security_is_refused(database: Database) -> None:
    url = psycopg.conninfo.make_conninfo(database.url, user="postgres")
    with pytest.raises(FailedPrecondition, match="row security") as caught:
        await Store.open(url)
    assert caught.value.metadata == {"role": "postgres"}
