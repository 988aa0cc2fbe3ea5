"""What `ragmesh up` promises about PostgreSQL and Redis: they come, stay, heal and go."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from engine.errors import DataLoss, FailedPrecondition
from services.local.binaries import find_postgres
from services.local.directory import hold
from services.local.postgres import embedded_postgres
from services.local.runas import first_closed
from tests.services.local.running import Mesh, gone, running_mesh

Start = Callable[..., Mesh]


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that tests look at and leave as it is, ready to be used."""
    with running_mesh(tmp_path_factory.mktemp("untouched") / "data") as mesh:
        mesh.wait_for(kind="up")
        yield mesh


def one(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
        assert row is not None
        return row[0]


def test_data_outlives_a_stop_and_a_stop_leaves_no_process(mesh: Start) -> None:
    first = mesh()
    up = first.wait_for(kind="up")
    with psycopg.connect(up["url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'ünï' AS word")
    children = first.descendants()
    assert len(children) >= 2
    first.stop()
    assert gone(children, 0.5) == []

    again = mesh()
    assert one(again.wait_for(kind="up")["url"], "SELECT word FROM kept") == "ünï"
    again.stop()


def test_services_log_in_as_an_ordinary_role_and_nobody_over_tcp(untouched: Mesh) -> None:
    up = untouched.said[-1]
    role = "FROM pg_roles WHERE rolname = current_user"
    assert one(up["url"], f"SELECT rolsuper OR rolbypassrls OR rolcreaterole {role}") is False
    owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
    assert one(up["url"], owner) == "ragmesh"
    settings = {"listen_addresses": "", "fsync": "on", "data_checksums": "on"}
    settings |= {"server_encoding": "UTF8", "synchronous_commit": "on"}
    assert {name: one(up["url"], f"SHOW {name}") for name in settings} == settings


def test_user_texts_stay_out_of_the_log(untouched: Mesh) -> None:
    up = untouched.said[-1]
    with psycopg.connect(up["url"], autocommit=True) as connection:
        connection.execute("CREATE TABLE once (word text PRIMARY KEY)")
        connection.execute("INSERT INTO once VALUES ('confidential')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO once VALUES ('confidential')")
    log = (untouched.root / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "confidential" not in log


def test_redis_evicts_only_what_has_a_lifetime_and_writes_no_file(untouched: Mesh) -> None:
    client = redis.Redis.from_url(untouched.said[-1]["redis_url"])
    policy = client.config_get("maxmemory-policy")
    assert policy == {"maxmemory-policy": "volatile-lru"}
    assert client.config_get("save") == {"save": ""}
    client.set("lease", "held", ex=10)
    assert client.get("lease") == b"held"
    client.close()
    assert list((untouched.root / "redis").iterdir()) == []


def test_a_killed_part_is_restarted_and_acknowledged_writes_are_there(mesh: Start) -> None:
    running = mesh()
    up = running.wait_for(kind="up")
    with psycopg.connect(up["url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
    for name in ("postgres", "redis"):
        (pid,) = {e["pid"] for e in running.said if e.get("name") == name and e["kind"] == "ready"}
        killed_s = time.monotonic()
        psutil.Process(pid).kill()
        exited = running.wait_for(name=name, kind="exited")
        assert exited["detail"] == "killed by SIGKILL"
        assert running.wait_for(name=name, kind="ready")["pid"] != pid
        assert time.monotonic() - killed_s < 5.0
    assert one(up["url"], "SELECT number FROM kept") == 7
    running.stop()


def test_kill_9_of_the_mesh_leaves_no_orphan_and_the_next_one_starts_at_once(mesh: Start) -> None:
    first = mesh()
    up = first.wait_for(kind="up")
    with psycopg.connect(up["url"]) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 8 AS number")
    busy = psycopg.connect(up["url"])
    # A server process that computes for minutes and looks neither at its client nor its parent.
    busy.pgconn.send_query(b"SELECT count(*) FROM generate_series(1, 10000000000)")
    children = first.descendants()
    first.kill()
    again = mesh()
    assert gone(children, 5.0) == []
    assert one(again.wait_for(kind="up")["url"], "SELECT number FROM kept") == 8
    busy.close()
    again.stop()


def test_an_initdb_killed_midway_heals(mesh: Start, tmp_path: Path) -> None:
    first = mesh()
    half_made = tmp_path / "data" / "postgres.new" / "base"
    deadline_s = time.monotonic() + 10
    while not half_made.exists() and time.monotonic() < deadline_s:
        time.sleep(0.002)
    first.kill()
    assert half_made.exists()
    assert not (tmp_path / "data" / "postgres").exists()
    again = mesh()
    assert one(again.wait_for(kind="up")["url"], "SELECT 1") == 1
    assert not half_made.exists()
    again.stop()


def test_a_stale_pid_file_that_names_a_living_process_heals(mesh: Start, tmp_path: Path) -> None:
    first = mesh()
    first.wait_for(kind="up")
    first.stop()
    # After a restart of the machine, the number may be that of any process of ours.
    cluster = tmp_path / "data" / "postgres"
    lines = [str(os.getpid()), str(cluster), "1", "5432", str(tmp_path), "", "1 1", "ready", ""]
    (cluster / "postmaster.pid").write_text("\n".join(lines))
    mesh().wait_for(kind="up")


def test_a_half_made_cluster_is_remade_but_never_one_that_held_data(tmp_path: Path) -> None:
    with hold(tmp_path / "data") as held:
        postgres = embedded_postgres(held.directory)
        cluster = held.directory.postgres
        (cluster / "base" / "1").mkdir(parents=True)
        asyncio.run(postgres.prepare())
        assert (cluster / "global" / "pg_control").exists()

        (cluster / "base" / "16385").mkdir()
        (cluster / "global" / "pg_control").rename(tmp_path / "lost")
        with pytest.raises(DataLoss, match="pg_control"):
            asyncio.run(postgres.prepare())
        assert (cluster / "base" / "16385").exists()


def test_a_cluster_of_another_major_version_is_refused_with_both_named(tmp_path: Path) -> None:
    with hold(tmp_path / "data") as held:
        postgres = embedded_postgres(held.directory)
        for name in ("PG_VERSION", "global/pg_control"):
            file = held.directory.postgres / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("11\n")
        with pytest.raises(FailedPrecondition) as caught:
            asyncio.run(postgres.prepare())
        assert caught.value.metadata["version"] == "11"
        assert caught.value.metadata["installed"] == str(postgres.major)
        assert (held.directory.postgres / "PG_VERSION").read_text() == "11\n"


def test_it_runs_as_an_ordinary_user_in_a_private_directory(
    mesh: Start, ordinary_user: list[str]
) -> None:
    running = mesh(prefix=ordinary_user)
    up = running.wait_for(kind="up")
    assert up["why"] == "as this user"
    assert one(up["url"], "SELECT 1") == 1
    running.stop()


def test_root_uses_nobody_where_nobody_can_go_and_a_namespace_elsewhere(
    mesh: Start, tmp_path: Path
) -> None:
    inside = mesh(tmp_path / "private")
    why = inside.wait_for(kind="up")["why"]
    inside.stop()
    open_place = Path(tempfile.mkdtemp(prefix="ragmesh-test-"))
    open_place.chmod(0o755)
    try:
        outside = mesh(open_place / "data")
        up = outside.wait_for(kind="up")
        closed = first_closed([find_postgres()[0], open_place], pwd.getpwnam("nobody"))
        owner = (open_place / "data" / "postgres").stat().st_uid
        if os.geteuid() != 0:
            assert (why, up["why"], owner) == ("as this user", "as this user", os.geteuid())
        else:
            assert "namespace" in why
            above = tmp_path.parents[:-2]  # of which the first that is closed is named
            assert any(str(one) in why for one in above) or closed is not None
            nobody = pwd.getpwnam("nobody").pw_uid
            assert owner == (nobody if closed is None else 0), up["why"]
        assert one(up["url"], "SELECT 1") == 1
        children = outside.descendants()
        outside.kill()
        assert gone(children, 5.0) == []
    finally:
        shutil.rmtree(open_place)
