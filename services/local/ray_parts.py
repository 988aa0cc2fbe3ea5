"""Nodes on Ray as parts of a local mesh: the process that places them, and a Ray of our own.

Our own Ray asks for a token, listens on loopback only, has no dashboard, no proxy, and a small
object store. `ray` itself is imported by `services/ray` alone, in the process started here.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.errors import FailedPrecondition, InvalidField, ServiceUnavailable
from services.config import Settings, to_environment
from services.local.directory import SOCKET_PATH_BYTES_MAX, DataDirectory
from services.local.gateway import split_address
from services.local.placement import Placement, cpus_needed, placements
from services.local.process import own_argv
from services.local.supervisor import Part

RAY = "ray"
"""The part that places the nodes; it stops before all others, and every node with it."""

_REACHED_WITHIN_S = 5.0
_READY_TIMEOUT_S = 900.0  # the process itself gives up earlier, and says why
_HEAD_READY_S = 90.0
_BELOW_SCRATCH_BYTES = 66
_HEAD_ENV = {
    "RAY_START_HOOK": "services.ray.head.without_client_server",
    # Our nodes are drained before it is stopped, so it need not wait for 30 s. Where we die, it and
    # the part `ray` are told at once, and it must be the later one: Ray ends its driver with it.
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "2",
    # Nodes answer people: they are no batch work that gives way to all else, as Ray's workers do.
    "RAY_worker_niceness": "0",
}
_LOOPBACK_ENV = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's switch for machines where it should stay on loopback; by itself it would listen on all."""
_DRIVER_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Below `uv run`, Ray would send the working directory to every machine.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A stop signal is no failure that asks for a stack trace.
    "RAY_DISABLE_FAILURE_SIGNAL_HANDLER": "1",
}


def check_ray(settings: Settings, address: str) -> str:
    """The address of this machine by which the cluster at `address` can reach it.

    `address` is `host:port`, or empty for a Ray of our own. Raises FailedPrecondition where ray is
    not installed or stores are embedded that others cannot reach, ServiceUnavailable where nobody
    answers, InvalidField where the address is none.
    """
    _require_ray()
    if not address:
        return "127.0.0.1"
    store = settings.store
    for name, url in (("postgres", store.postgres_url), ("redis", store.redis_url)):
        if not url.get_secret_value():
            raise FailedPrecondition(
                "nodes on the machines of a Ray cluster cannot reach an embedded PostgreSQL or "
                f"Redis; give --postgres-url and --redis-url (--{name}-url is missing)",
                metadata={"missing": f"--{name}-url"},
            )
    return _own_address(address)


def check_cluster(address: str) -> None:
    """Raises FailedPrecondition where ray is not installed, ServiceUnavailable where no head
    answers at `address`, InvalidField where it is none."""
    _require_ray()
    _own_address(address)


def _require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise FailedPrecondition(
            "Ray is not installed; install it with: pip install 'ragmesh-server[ray]' (in a "
            "checkout: uv sync)",
        )


def _own_address(address: str) -> str:
    try:
        host, port = split_address(address)
        if not host:
            raise ValueError("it has no host")
    except ValueError as error:
        raise InvalidField(
            f"{address!r} is no address of a Ray head: {error}; write host:port, such as "
            "10.0.0.5:6379",
            field="ray",
            metadata={"address": address},
        ) from error
    try:
        with socket.create_connection((host, port), timeout=_REACHED_WITHIN_S) as connection:
            return str(connection.getsockname()[0])
    except OSError as error:
        raise ServiceUnavailable(
            f"no Ray head answers at {address}: {error.strerror or error}. Is it running "
            "(`ray start --head`), and is this the port of its GCS (6379 by default)?",
            metadata={"address": address, "problem": str(error)},
        ) from error


def driver_environment(settings: Settings) -> dict[str, str]:
    """What a process needs in its environment to join a cluster at an address."""
    token = settings.ray.token_file
    found = {"RAY_AUTH_MODE": settings.ray.auth, **_DRIVER_ENV}
    return found | ({"RAY_AUTH_TOKEN_PATH": str(token)} if token else {})


def ray_parts(
    directory: DataDirectory,
    settings: Settings,
    nodes: Sequence[Sequence[str]],
    address: str,
    port: int,
    needs: tuple[str, ...],
) -> list[Part]:
    """The part `ray`, and before it `ray-head` on `port` where `address` is empty.

    `settings` are those of the nodes. Raises InvalidField for placements that make no sense.
    """
    wanted = placements(nodes, settings.ray)
    if address:
        token = settings.ray.token_file
        env: dict[str, str] = {"RAY_AUTH_MODE": settings.ray.auth}
        env |= {"RAY_AUTH_TOKEN_PATH": str(token)} if token else {}
        return [_nodes_part(directory, settings, nodes, address, env, needs)]
    env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(_token(directory)), **_LOOPBACK_ENV}
    own = f"127.0.0.1:{port}"
    return [
        _head_part(directory, settings, wanted, port, env),
        _nodes_part(directory, settings, nodes, own, env, needs),
    ]


def remove_scratch(directory: DataDirectory) -> None:
    """Remove what a Ray of our own keeps besides the data directory."""
    shutil.rmtree(_scratch(directory), ignore_errors=True)


def _nodes_part(
    directory: DataDirectory,
    settings: Settings,
    nodes: Sequence[Sequence[str]],
    address: str,
    env: dict[str, str],
    needs: tuple[str, ...],
) -> Part:
    run, log_file = directory.run, directory.logs / "ray.log"
    ready_file, failed_file = run / "ray.ready", run / "ray.failed"
    known = (
        *("--deployment", _deployment(directory), "--session", secrets.token_hex(4)),
        *("--nodes", ";".join(",".join(node) for node in nodes)),
        *("--address", address, "--run-dir", str(run)),
    )
    lives: list[str] = []

    def argv() -> list[str]:
        return own_argv("ray", "nodes", *known, *lives)

    async def prepare() -> None:
        for file in (ready_file, failed_file):
            file.unlink(missing_ok=True)

    async def ready() -> bool:
        with contextlib.suppress(FileNotFoundError):
            raise ServiceUnavailable(f"{failed_file.read_text()}\nIts log is {log_file}.")
        return ready_file.exists()

    async def settle() -> None:
        lives[:] = ["--returning"]

    return Part(
        name=RAY,
        argv=argv,
        env={**to_environment(settings), **env, **_DRIVER_ENV},
        prepare=prepare,
        ready=ready,
        settle=settle,
        log_file=log_file,
        depends_on=needs,
        stop_grace_s=2 * settings.node.drain_grace_s + 60.0,
        ready_timeout_s=_READY_TIMEOUT_S,
        # Nodes are tied to nobody's life: if we die, it ends them.
        death_signal=signal.SIGTERM,
    )


def _head_part(
    directory: DataDirectory,
    settings: Settings,
    wanted: Sequence[Placement],
    port: int,
    env: dict[str, str],
) -> Part:
    scratch = _scratch(directory)
    argv = [
        *(sys.executable, "-P", "-m", "ray.scripts.scripts", "start", "--head", "--block"),
        *(f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={scratch}"),
        *("--include-dashboard=false", "--include-log-monitor=false", "--no-monitor"),
        # Any free ports: another Ray on this machine may have the usual ones.
        *("--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"),
        *("--disable-usage-stats", f"--object-store-memory={settings.ray.object_store_bytes}"),
        f"--num-cpus={cpus_needed(wanted)}",
        *([] if any(one.gpus for one in wanted) else ["--num-gpus=0"]),
    ]

    async def prepare() -> None:
        remove_scratch(directory)
        try:
            scratch.mkdir(mode=0o700)
        except FileExistsError:
            raise FailedPrecondition(
                f"{scratch} should be our directory for Ray and is somebody else's; remove it, or "
                "set TMPDIR to a directory of your own",
                metadata={"path": str(scratch)},
            ) from None

    async def ready() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return True

    return Part(
        name="ray-head",
        argv=lambda: argv,
        env={**env, **_HEAD_ENV},
        prepare=prepare,
        ready=ready,
        log_file=directory.logs / "ray-head.log",
        ready_timeout_s=_HEAD_READY_S,
        death_signal=signal.SIGTERM,
    )


def _scratch(directory: DataDirectory) -> Path:
    """A short path: Ray's sockets lie 66 bytes below it, and a path of one may have 107."""
    digest = hashlib.sha256(os.fsencode(directory.root)).hexdigest()[:16]
    name = f"ragmesh-ray-{os.geteuid()}-{digest}"
    usual = Path(tempfile.gettempdir()) / name
    fits = len(os.fsencode(usual)) + _BELOW_SCRATCH_BYTES <= SOCKET_PATH_BYTES_MAX
    return usual if fits else Path("/tmp") / name


def _token(directory: DataDirectory) -> Path:
    """The file with the token of our own Ray, made at the first start."""
    return _written_once(directory, "token", secrets.token_hex(32))


def _deployment(directory: DataDirectory) -> str:
    """What tells our nodes from others' on the same cluster."""
    return _written_once(directory, "deployment", secrets.token_hex(4)).read_text()


def _written_once(directory: DataDirectory, name: str, text: str) -> Path:
    room = directory.root / "ray"
    room.mkdir(mode=0o700, exist_ok=True)
    file = room / name
    if not file.exists():
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as fresh:
            fresh.write(text)
    return file
