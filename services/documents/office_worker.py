"""The process in which LibreOffice saves one old office file anew:
`python -P -m services.documents.office_worker`.

It takes a frame of JSON (`Task`) and a frame with the file on standard input, as parsers do
(`parse_worker`), and answers with a frame of JSON {"ended", "exit_status"} and a frame with the new
file, empty if there is none. LibreOffice gets a directory of its own, which is gone in the end, and
nothing else to write; no network; limits on memory, CPU and wall time, files and processes. It, and
whatever it started, is killed when it is done, when it takes too much, and when standard input
ends: so it does not outlive the node that asked.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import select
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from services.documents.landlock import confine_files, drop_capabilities
from services.documents.parse_worker import leave_network, read_frame, write_frame

PROCESSES_MAX: Final = 16
FILES_MAX: Final = 2_000
LOOK_EVERY_S: Final = 0.1

STARTS_MAX: Final = 3
_START_AGAIN = 81
"""The exit status by which LibreOffice asks for another start: it has made its profile."""

_PR_SET_CHILD_SUBREAPER = 36
_READABLE = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/snap"),
    *("/var/cache/fontconfig", "/var/lib/libreoffice", "/var/spool/libreoffice"),
    *("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache", "/etc/libreoffice"),
    *("/etc/locale.alias", "/etc/localtime", "/etc/nsswitch.conf", "/etc/passwd", "/etc/group"),
    *("/dev/random", "/dev/urandom", "/dev/zero", "/proc/self", "/proc/cpuinfo", "/proc/meminfo"),
)
"""Programs, fonts and what they need; no home, no data, no keys, no disk."""

_SOCKETS = "/tmp"
"""LibreOffice starts nowhere but where it can make a socket here, and leaves it if it is killed."""

_PROFILE = "user/registrymodifications.xcu"
_SETTINGS = (
    ("Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Common/Security/Scripting", "DisableActiveContent", "true"),
    ("Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Writer/Content/Update", "Link", "0"),
)
"""No macros, no objects of other programs, no links that are followed (0 is "never")."""

Ended = Literal["exited", "wall", "disk", "processes", "left"]
"""How LibreOffice ended: by itself, or because of what; `left` where nobody waits any more."""


@dataclass(frozen=True, slots=True)
class Task:
    """What to do and what it may take. `program` is soffice, `reader` its name for the file's
    format, `source` and `target` are endings of file names; `bytes_max` are those of a file, and of
    all files twice that."""

    program: str
    reader: str
    source: str
    target: str
    wall_s: float
    cpu_s: int
    memory_bytes: int
    bytes_max: int


def convert(task: Task, data: bytes, directory: Path) -> tuple[Ended, int, bytes]:
    """How LibreOffice ended in `directory`, its exit status, and the new file, which may be empty:
    there is none, or none that can be taken."""
    (directory / "in").mkdir()
    (directory / "tmp").mkdir()
    (directory / "in" / f"file.{task.source}").write_bytes(data)
    _write_profile(directory / "profile")
    end_s = time.monotonic() + task.wall_s
    for _ in range(STARTS_MAX):
        ended, status = _run(task, directory, end_s)
        if ended != "exited" or status != _START_AGAIN:
            break
    if (ended, status) != ("exited", 0):
        return ended, status, b""
    return ended, status, _taken(directory / "out", f"file.{task.target}", task.bytes_max)


def _run(task: Task, directory: Path, end_s: float) -> tuple[Ended, int]:
    started = subprocess.Popen(
        _command(task, directory),
        cwd=directory,
        env=_environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: _confine(task, directory),
    )
    try:
        ended = _watch(started.pid, task, directory, end_s)
    finally:
        status = started.poll()
        _end_all()
        for socket in _sockets(directory / "profile"):
            socket.unlink(missing_ok=True)
    return ended, status or 0


def _command(task: Task, directory: Path) -> list[str]:
    # The program itself, where it is found beside its starter, which would start it again without
    # the socket being gone that it may make and not remove.
    beside = Path(task.program).resolve().with_name("soffice.bin")
    return [
        str(beside) if beside.is_file() else task.program,
        f"-env:UserInstallation={(directory / 'profile').as_uri()}",
        *("--headless", "--norestore", "--nolockcheck", "--nodefault", "--nofirststartwizard"),
        # Else what is no such file would be read as some other kind, at worst as text.
        f"--infilter={task.reader}",
        *("--convert-to", task.target, "--outdir", str(directory / "out")),
        str(directory / "in" / f"file.{task.source}"),
    ]


def _environment(directory: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(directory),
        "TMPDIR": str(directory / "tmp"),
        "SAL_USE_VCLPLUGIN": "svp",  # no display
    }


def _write_profile(profile: Path) -> None:
    items = "".join(
        f'<item oor:path="/org.openoffice.Office.{path}"><prop oor:name="{name}" oor:op="fuse">'
        f"<value>{value}</value></prop></item>"
        for path, name, value in _SETTINGS
    )
    (profile / "user").mkdir(parents=True)
    (profile / _PROFILE).write_text(
        '<?xml version="1.0" encoding="UTF-8"?><oor:items '
        f'xmlns:oor="http://openoffice.org/2001/registry">{items}</oor:items>'
    )


def _sockets(profile: Path) -> list[Path]:
    """Where a LibreOffice with this profile listened for others (its officeipcthread.cxx); the
    user's number stands in the name where the user is known."""
    digest = hashlib.md5(profile.as_uri().encode("utf-16-le"), usedforsecurity=False).digest()
    name = "".join(f"{byte:x}" for byte in digest)
    return list(Path(_SOCKETS).glob(f"OSL_PIPE_*SingleOfficeIPC_{name}"))


def _watch(process: int, task: Task, directory: Path, end_s: float) -> Ended:
    """Waits until it exits, or until there is a reason to end it."""
    exited = os.pidfd_open(process)
    try:
        while not _any_ready(0, exited):
            if reason := _too_much(task, directory, end_s):
                return reason
        return "exited" if _any_ready(exited) else "left"  # who asked is gone: nothing is sent
    finally:
        os.close(exited)


def _any_ready(*descriptors: int) -> bool:
    return bool(select.select(descriptors, [], [], LOOK_EVERY_S)[0])


def _too_much(task: Task, directory: Path, end_s: float) -> Ended | None:
    if time.monotonic() > end_s:
        return "wall"
    if len(_descendants()) > PROCESSES_MAX:
        return "processes"
    files, taken = _below(directory)
    return "disk" if files > FILES_MAX or taken > 2 * task.bytes_max else None


def _descendants() -> list[int]:
    """All processes that this one started, or that those did; orphans among them come to this one
    (it is their subreaper)."""
    found, ahead = [], [os.getpid()]
    while ahead:
        process = ahead.pop()
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                some = [int(child) for child in children.read_text().split()]
                found += some
                ahead += some
    return found


def _end_all() -> None:
    while processes := _descendants():
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _below(directory: Path) -> tuple[int, int]:
    """How many files and folders there are, and the bytes of them."""
    count = taken = 0
    for _, folders, files, at in os.fwalk(directory):
        count += len(folders) + len(files)
        for name in files:
            with contextlib.suppress(OSError):
                taken += os.stat(name, dir_fd=at, follow_symlinks=False).st_size
    return count, taken


def _taken(folder: Path, name: str, bytes_max: int) -> bytes:
    """A file in a folder, neither of them a link; empty if there is none, or a larger one."""
    with contextlib.suppress(OSError):
        at = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
        finally:
            os.close(at)
        with os.fdopen(file, "rb") as source:
            found = os.fstat(file)
            if stat.S_ISREG(found.st_mode) and found.st_size <= bytes_max:
                return source.read(bytes_max)
    return b""


def _confine(task: Task, directory: Path) -> None:
    """What the process of LibreOffice does before it becomes one."""
    leave_network()
    drop_capabilities()
    beside = Path(task.program).resolve().parent
    confine_files([*_READABLE, str(beside)], [str(directory), "/dev/null"], [_SOCKETS])
    for limit, value in (
        (resource.RLIMIT_AS, task.memory_bytes),
        (resource.RLIMIT_FSIZE, task.bytes_max),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 1_024),
    ):
        resource.setrlimit(limit, (value, value))
    # At the first bound the signal that says so, at the second one the kill.
    resource.setrlimit(resource.RLIMIT_CPU, (task.cpu_s, task.cpu_s + 1))


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    """An empty one, which is gone afterwards whatever was done to it."""
    path = Path(tempfile.mkdtemp(prefix="ragmesh-office-")).resolve()
    try:
        yield path
    finally:
        for folder, _, _ in os.walk(path):
            with contextlib.suppress(OSError):
                os.chmod(folder, 0o700)
        shutil.rmtree(path, ignore_errors=True)


def main() -> None:
    """Converts one file."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which drains
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    head, data = read_frame(source), read_frame(source)
    if head is None or data is None:
        return
    with _directory() as directory:
        ended, status, out = convert(Task(**json.loads(head)), data, directory)
    if ended != "left":
        write_frame(target, json.dumps({"ended": ended, "exit_status": status}).encode())
        write_frame(target, out)


if __name__ == "__main__":
    main()
