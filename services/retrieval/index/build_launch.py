"""Become a build whose life ends with the node's and that never stands in the way of a search.

Run by path with the standard library alone, `python -I -S build_launch.py PARENT NICE CMD …`: in a
`preexec_fn` Python would run in a fork of a process that has threads, where a lock that another
thread holds stays locked for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_OOM_SCORE_ADD = 500
"""Where memory runs out the kernel ends the build, which is begun again, and not the node."""


def main(argv: list[str]) -> None:
    """Tie this process to `PARENT`, step back by `NICE`, and exec `CMD`."""
    parent, nice, command = int(argv[0]), int(argv[1]), argv[2:]
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl(PR_SET_PDEATHSIG): {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the node that started this build died before the two could be tied together")
    os.nice(nice)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write(str(_OOM_SCORE_ADD))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
