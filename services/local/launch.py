"""Become another program whose life ends with that of the process that started us.

Run by path with the standard library alone, `python -I -S launch.py PARENT SIGNAL UID GID CMD …`:
about 20 ms. Doing this in a `preexec_fn` would run Python in a fork of a process that may have
gRPC threads, where a lock held by another thread stays locked for ever.

The death signal belongs to the *thread* of the parent that started us: the kernel sends it when
that thread ends. It is cleared by a change of user, so it is set after that.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(argv: list[str]) -> None:
    """Tie this process to `PARENT`, take on `UID` and `GID` unless they are -1, and exec `CMD`."""
    parent, death_signal, uid, gid = (int(value) for value in argv[:4])
    command = argv[4:]
    os.umask(0o077)
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the process that started this one died before the two could be tied together")
    # What is ignored stays so over exec: the first two by Python itself, the others where we come
    # from `nohup` or a script's background job.
    for usual in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT"):
        signal.signal(signal.Signals[usual], signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
