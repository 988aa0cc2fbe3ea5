"""Become a program that outlives the process which started it, and leave a record of it.

Run by path with the standard library alone, `python -I -S detach.py DIRECTORY LOG CMD …`. When this
returns with 0, `DIRECTORY/node` holds the program's process id, and is locked (flock) by it until
it ends: the kernel drops the lock with the process, so a record cannot lie about who lives.

Ray ends the children and the process group of its workers; the program is in neither.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys


def main(argv: list[str]) -> None:
    """Lock the record, fork, write the child's process id and exit; the child becomes `CMD`."""
    directory, log_file, *command = argv
    os.umask(0o077)
    unseen = os.path.join(directory, "node.new")
    record = os.open(unseen, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    child = os.fork()  # both hold the lock; the kernel drops it when the second has ended
    if child:
        os.write(record, str(child).encode())
        os.rename(unseen, os.path.join(directory, "node"))
        return
    os.setsid()
    os.set_inheritable(record, True)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for usual in ("SIGPIPE", "SIGXFSZ", "SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        signal.signal(signal.Signals[usual], signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
