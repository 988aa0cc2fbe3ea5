"""As whom PostgreSQL runs. It refuses to be root, and wants its user in the password file.

- An ordinary user: directly.
- Root, where `nobody` can enter every directory above the binaries and above the data directory:
  as `nobody`, who then owns the cluster.
- Root elsewhere (a home or a clone of mode 0700): in a user namespace that shows our own user
  under nobody's number. Files stay root's, and every directory that root's mode bits allow can
  be entered, but there are no capabilities.
- Neither: refused, with the directory that is in the way.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from engine.errors import FailedPrecondition
from services.local.directory import DataDirectory
from services.local.process import RunAs


def choose_run_as(binaries: Path, directory: DataDirectory) -> RunAs:
    """As whom to run programs that refuse to be root.

    `binaries` is the directory they lie in. The modes of the data directory itself and of its
    sockets do not matter: they are ours to open. Raises FailedPrecondition where no way works.
    """
    if os.geteuid() != 0:
        if _has_entry(os.geteuid()):
            return RunAs()
        return _in_namespace("this user has no entry in the password file")
    nobody = _nobody()
    ways = [binaries, directory.root.parent]
    if directory.run.parent != directory.root:
        ways.append(directory.run.parent)
    closed = first_closed(ways, nobody)
    if closed is None:
        return RunAs((), nobody.pw_uid, nobody.pw_gid, f"as user {nobody.pw_name}")
    return _in_namespace(f"user {nobody.pw_name} cannot enter {closed}")


def first_closed(paths: list[Path], user: pwd.struct_passwd) -> Path | None:
    """The first directory, from the root down, that `user` cannot enter on the way to `paths`."""
    for path in paths:
        resolved = path.resolve()
        for directory in (*reversed(resolved.parents), resolved):
            if not _may_enter(directory, user):
                return directory
    return None


@functools.cache
def namespace_works(uid: int, gid: int) -> bool:
    """Whether this system lets us make a user namespace (some containers do not)."""
    if shutil.which("unshare") is None:
        return False
    command = [*_unshare(uid, gid), "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _in_namespace(obstacle: str) -> RunAs:
    nobody = _nobody()
    if namespace_works(nobody.pw_uid, nobody.pw_gid):
        return RunAs(
            _unshare(nobody.pw_uid, nobody.pw_gid), -1, -1, f"in a user namespace ({obstacle})"
        )
    raise FailedPrecondition(
        f"PostgreSQL refuses to run as root; {obstacle}, and `unshare --user` does not work here. "
        "Open that directory for passing through (chmod o+x), use another --data-dir, or run as "
        "an ordinary user",
        metadata={"obstacle": obstacle},
    )


def _unshare(uid: int, gid: int) -> tuple[str, ...]:
    return ("unshare", "--user", f"--map-user={uid}", f"--map-group={gid}", "--")


def _may_enter(directory: Path, user: pwd.struct_passwd) -> bool:
    status = directory.stat()
    if status.st_uid == user.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.pw_gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def _nobody() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        raise FailedPrecondition(
            "PostgreSQL refuses to run as root and this system has no user `nobody`; add one, or "
            "run as an ordinary user",
            metadata={"user": "nobody"},
        ) from None


def _has_entry(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
