"""The data directory: what lies where, who holds it, and where its sockets are.

    <data>/            0700 (0711 where PostgreSQL runs as another user, who must pass through)
        lock           held by flock while a mesh runs; JSON about its holder
        ports.json     loopback ports, so that addresses stay over restarts
        postgres/      the database cluster
        redis/  models/  index/  objects/  logs/
        ray/           what nodes on Ray need to be found again; see services/ray/records.py
        run/           sockets and files that mean nothing after a stop

A socket's path may have 107 bytes. Where `<data>/run` is too long for that, the sockets lie in
`<temporary directory>/ragmesh-<uid>-<hash of the path>`, and `<data>/run` is a link to it. That
directory goes when the data directory is released; after a kill, when it is next.

The kernel drops the lock with the process that took it, so a stale lock cannot be.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from engine.errors import FailedPrecondition

SOCKET_PATH_BYTES_MAX = 107  # sun_path of unix(7) has 108, and one is the final zero
SOCKET_NAME_BYTES_MAX = 40  # what a path below `run` may add, its slash included
_ROOMS = ("redis", "models", "index", "objects", "logs")
_KNOWN = {
    *_ROOMS,
    "postgres",
    "postgres.new",
    "run",
    "ray",
    "lock",
    "ports.json",
    "ports.json.new",
    "lost+found",
}


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths of one data directory. `run` is short enough for sockets, see above."""

    root: Path
    run: Path

    @property
    def lock_file(self) -> Path:
        return self.root / "lock"

    @property
    def ports_file(self) -> Path:
        return self.root / "ports.json"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def redis(self) -> Path:
        return self.root / "redis"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def objects(self) -> Path:
        return self.root / "objects"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    def socket(self, name: str) -> Path:
        """The path of a socket below `run`. Raises ValueError for a name over 39 bytes."""
        if len(os.fsencode(name)) >= SOCKET_NAME_BYTES_MAX:
            raise ValueError(f"socket name {name!r} has {SOCKET_NAME_BYTES_MAX} bytes or more")
        return self.run / name

    def let_through(self) -> None:
        """Let other users pass through (not list) the directory to what is theirs in it."""
        for path in (self.root, self.run):
            path.chmod(0o711)


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a data directory; `addresses` by name, as it described itself."""

    pid: int
    started_at_s: float
    addresses: Mapping[str, str]


class HeldDirectory:
    """A data directory that this process holds, until `release` or its end."""

    def __init__(self, directory: DataDirectory, lock: int, run_lock: int) -> None:
        self.directory = directory
        self._descriptors = [lock, run_lock]
        self._started_at_s = time.time()
        self.describe({})

    def describe(self, addresses: Mapping[str, str]) -> None:
        """Write down our addresses, for a second holder and for clients on this machine."""
        text = json.dumps(
            {
                "pid": os.getpid(),
                "started_at_s": self._started_at_s,
                "addresses": dict(addresses),
            }
        )
        lock = self._descriptors[0]
        os.pwrite(lock, text.encode() + b"\n", 0)
        os.ftruncate(lock, len(text.encode()) + 1)

    def release(self) -> None:
        """Let go of the directory, when all parts have stopped. Twice does nothing."""
        if self._descriptors:
            if self.directory.run.parent != self.directory.root:
                shutil.rmtree(self.directory.run, ignore_errors=True)
            os.ftruncate(self._descriptors[0], 0)
        while self._descriptors:
            os.close(self._descriptors.pop())

    def __enter__(self) -> HeldDirectory:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def default_root() -> Path:
    """`$XDG_DATA_HOME/ragmesh`, or where the platform keeps a user's data."""
    return platformdirs.user_data_path("ragmesh", appauthor=False)


def hold(root: Path) -> HeldDirectory:
    """Make the directory where it is missing, take its lock, and bring its rooms into order.

    Raises FailedPrecondition where another process holds it (who, since when, its addresses),
    where it belongs to another user, or where it holds something that is no mesh's.
    """
    root = Path(os.path.abspath(root))
    _own(root)
    lock = os.open(root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for room in _ROOMS:
            (root / room).mkdir(mode=0o700, exist_ok=True)
        run = _sockets(root)
    except BaseException as error:
        os.close(lock)
        if isinstance(error, BlockingIOError):
            raise _held_by(root, _read_holder(root / "lock")) from None
        raise
    # Whoever cleans the temporary directory leaves alone what is locked (systemd-tmpfiles(8)).
    run_lock = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with contextlib.suppress(OSError):
        fcntl.flock(run_lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return HeldDirectory(DataDirectory(root, run), lock, run_lock)


def run_directory(root: Path) -> Path:
    """Where the sockets of a mesh on this data directory are, which may be a link's target."""
    return (root / "run").resolve()


def find_holder(root: Path) -> Holder | None:
    """Who holds the directory now; None where nobody does."""
    try:
        lock = os.open(root / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder(root / "lock")
    finally:
        os.close(lock)
    return None


def _own(root: Path) -> None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = root.stat()
        if status.st_uid != os.geteuid():
            raise FailedPrecondition(
                f"the data directory {root} belongs to user id {status.st_uid}, not to "
                f"{os.geteuid()}; choose another with --data-dir",
                metadata={"path": str(root), "owner": status.st_uid, "user": os.geteuid()},
            )
        strange = sorted(set(os.listdir(root)) - _KNOWN)
        if strange and not (root / "lock").exists():
            raise FailedPrecondition(
                f"{root} is no data directory of ragmesh and is not empty (it holds "
                f"{strange[0]}); choose an empty or a new directory with --data-dir",
                metadata={"path": str(root), "entry": strange[0]},
            )
        root.chmod(0o700)
    except OSError as error:
        raise FailedPrecondition(
            f"the data directory {root} cannot be used: {error.strerror}; choose another with "
            "--data-dir",
            metadata={"path": str(root), "problem": str(error.strerror)},
        ) from error


def _sockets(root: Path) -> Path:
    """`<data>/run`, or the short directory that stands in for it."""
    run = root / "run"
    if len(os.fsencode(run)) + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX:
        if run.is_symlink():
            run.unlink()
        run.mkdir(mode=0o700, exist_ok=True)
        run.chmod(0o700)
        return run
    short = _short_directory(root)
    if run.is_symlink():
        run.unlink()
    elif run.is_dir():  # it was short once, then moved; nothing in it outlives a stop
        shutil.rmtree(run)
    run.symlink_to(short)
    return short


def _short_directory(root: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(root)).hexdigest()[:16]
    name = f"ragmesh-{os.geteuid()}-{digest}"
    for parent in (Path(tempfile.gettempdir()), Path("/tmp")):
        short = parent / name
        if len(os.fsencode(short)) + SOCKET_NAME_BYTES_MAX <= SOCKET_PATH_BYTES_MAX:
            break
    else:
        raise FailedPrecondition(
            f"no directory is short enough for sockets: {short} leaves fewer than "
            f"{SOCKET_NAME_BYTES_MAX} of {SOCKET_PATH_BYTES_MAX} bytes; set TMPDIR to a short path",
            metadata={"path": str(short), "bytes_max": SOCKET_PATH_BYTES_MAX},
        )
    with contextlib.suppress(FileExistsError):
        short.mkdir(mode=0o700)
    status = short.lstat()
    if status.st_uid != os.geteuid() or short.is_symlink() or not short.is_dir():
        raise FailedPrecondition(
            f"{short} should be our directory for sockets and is somebody else's; remove it, or "
            "set TMPDIR to a directory of your own",
            metadata={"path": str(short), "owner": status.st_uid},
        )
    short.chmod(0o700)
    return short


def _read_holder(lock_file: Path) -> Holder | None:
    try:
        held = json.loads(lock_file.read_text())
        return Holder(int(held["pid"]), float(held["started_at_s"]), dict(held["addresses"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # taken a moment ago, not described yet


def _held_by(root: Path, holder: Holder | None) -> FailedPrecondition:
    if holder is None:
        return FailedPrecondition(
            f"another process has just taken the data directory {root}; try again in a second, "
            "or choose another with --data-dir",
            metadata={"path": str(root)},
        )
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder.started_at_s))
    where = ", ".join(f"{name} {address}" for name, address in holder.addresses.items())
    return FailedPrecondition(
        f"the data directory {root} is held by process {holder.pid}, running since {since}"
        + (f" at {where}" if where else " and still starting")
        + "; use that mesh, stop it, or choose another directory with --data-dir",
        metadata={"path": str(root), "pid": holder.pid, "since": since, "addresses": where},
    )
