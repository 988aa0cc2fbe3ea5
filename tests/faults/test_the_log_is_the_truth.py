"""An index is a view of the log in PostgreSQL: a node that dies comes back to the same answers,
and one whose log was restored from a backup shows what the backup holds."""

from __future__ import annotations

import random
import shutil

from ragmesh import AsyncClient, Point

from tests.faults.faulty_mesh import NODES, FaultyMesh, until

DIMENSIONS = 8
REBUILDS = "ragmesh_index_rebuilds_total"


def _points(random_: random.Random, count: int, first: int = 0) -> list[Point]:
    return [
        Point(
            f"p{number}",
            [random_.gauss(0, 1) for _ in range(DIMENSIONS)],
            text=f"word{number % 17} word{number % 5}",
            payload={"even": number % 2 == 0},
        )
        for number in range(first, first + count)
    ]


async def _answers(client: AsyncClient, collection: str) -> list[object]:
    """What some searches find, with scores, and the watermark."""
    random_ = random.Random(5)
    found: list[object] = []
    for _ in range(5):
        vector = [random_.gauss(0, 1) for _ in range(DIMENSIONS)]
        result = await client.search_collection(collection, vector=vector, exact=True)
        found += [result.watermark, *((hit.point.id, hit.score) for hit in result.hits)]
        result = await client.search_collection(
            collection, f"word{random_.randrange(17)}", mode="lexical"
        )
        found += [result.watermark, *(hit.point.id for hit in result.hits)]
    return found


async def test_a_killed_node_serves_the_same_with_its_last_acknowledged_write(
    mesh: FaultyMesh,
) -> None:
    random_ = random.Random(1)
    async with mesh.client("node-1") as client:
        await client.create_collection("replayed", dimensions=DIMENSIONS)
        await client.upsert_points("replayed", _points(random_, 300))
        await client.delete_points("replayed", [f"p{n}" for n in range(0, 300, 7)])
        await client.upsert_points("replayed", _points(random_, 20, first=100), wait=True)
        before = await _answers(client, "replayed")
        # Acknowledged, and not waited for: the index need not have seen it.
        await client.upsert_points("replayed", [Point("last", [1.0] * DIMENSIONS)])
        dead = mesh.kill("node-1")
    await mesh.lives_again("node-1", dead)
    await mesh.reached("node-1")
    async with mesh.client("node-1") as client:
        found = await client.get_points("replayed", ["last"])
        assert [point.id for point in found] == ["last"]
        deleted = await client.delete_points("replayed", ["last"], wait=True)
        after = await _answers(client, "replayed")
    marks = {mark for mark in after if isinstance(mark, str) and mark.isdecimal()}
    assert marks == {deleted.watermark}
    assert _without_marks(after) == _without_marks(before)


def _without_marks(found: list[object]) -> list[object]:
    return [one for one in found if not (isinstance(one, str) and one.isdecimal())]


async def test_a_log_restored_from_an_older_backup_is_noticed(mesh: FaultyMesh) -> None:
    random_ = random.Random(2)
    cluster = mesh.settings.data_dir / "postgres"
    backup = mesh.settings.data_dir / "backup"
    async with mesh.client("node-1") as client:
        await client.create_collection("restored", dimensions=DIMENSIONS)
        written = await client.upsert_points("restored", _points(random_, 50))
        await _seen_by_all(mesh, "p49", written.watermark)
        await mesh.supervisor.stop_part("postgres")
        shutil.copytree(cluster, backup)
        await mesh.supervisor.start_part("postgres")
        # As many commits as will come after the restore: the numbers alone would look right.
        lost = await client.upsert_points("restored", [Point("lost", [1.0] * DIMENSIONS)])
        await client.create_collection("lost", dimensions=DIMENSIONS)
        await _seen_by_all(mesh, "lost", lost.watermark)
    rebuilds = [await mesh.metric(name, REBUILDS) for name in NODES]
    await mesh.supervisor.stop_part("postgres")
    shutil.rmtree(cluster)
    backup.rename(cluster)
    await mesh.supervisor.start_part("postgres")
    async with mesh.client("node-1", consistent_reads=False) as client:
        kept = await client.upsert_points("restored", [Point("kept", [1.0] * DIMENSIONS)])
        assert int(kept.watermark) == int(written.watermark) + 1
    for name, before in zip(NODES, rebuilds, strict=True):
        async with mesh.client(name, consistent_reads=False) as client:
            wanted = {"kept", *(f"p{n}" for n in range(50))}

            async def restored(client: AsyncClient = client, wanted: set[str] = wanted) -> bool:
                listed = {point.id async for point in client.list_points("restored")}
                collections = {c.name async for c in client.list_collections()}
                return listed == wanted and "collections/lost" not in collections

            await until(restored, 10, f"{name} shows what was restored")
            assert await mesh.metric(name, REBUILDS) == before + 1


async def _seen_by_all(mesh: FaultyMesh, point_id: str, watermark: str) -> None:
    for name in NODES:
        async with mesh.client(name) as client:
            assert await client.get_points("restored", [point_id], min_watermark=watermark)
