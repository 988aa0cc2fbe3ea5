"""What a process gives up for good, and all that it starts: files by Landlock, and capabilities.

The kernel keeps Landlock's rules (Linux 5.13 and newer), anyone may ask for them, and nobody can
take them back. They name folders; what is not beneath one that they name is forbidden.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterable

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same on every machine
_VERSION = 1
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP = 38, 24
_CAPABILITIES_MAX = 64
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

# linux/landlock.h: what may be done with files, and from which version on that can be forbidden.
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_AND_MAKE = sum(1 << bit for bit in range(4, 13))
_MAKE_SOCKET = 1 << 9
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_READING = _EXECUTE | _READ | _LIST
_OF_FILES = _EXECUTE | _WRITE | _READ | _TRUNCATE
_TCP = 0b11  # bind, connect
_SCOPES = 0b11  # abstract sockets and signals reach only what is as confined


def confine_files(
    readable: Iterable[str] | None, writable: Iterable[str], sockets: Iterable[str] = ()
) -> bool:
    """Forbid this thread, and what it starts, to read but beneath `readable` (None: anywhere) and
    `writable`, to write but beneath `writable`, to make sockets but there and beneath `sockets`,
    and TCP. Paths that are not there are left out. False, and nothing is forbidden, where the
    kernel cannot.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _VERSION)
    if version < 1:
        return False
    writing = _WRITE | _REMOVE_AND_MAKE | (_REFER if version >= 2 else 0)
    writing |= _TRUNCATE if version >= 3 else 0
    handled = writing | (_READING if readable is not None else 0)
    words = [handled, *([_TCP] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    asked = struct.pack(f"={len(words)}Q", *words)
    rules = libc.syscall(_CREATE, asked, ctypes.c_size_t(len(asked)), 0)
    if rules < 0:
        return False
    try:
        for path in readable or ():
            _allow(libc, rules, path, _READING & handled)
        for path in writable:
            _allow(libc, rules, path, (_READING | writing) & handled)
        for path in sockets:
            _allow(libc, rules, path, _MAKE_SOCKET)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


def drop_capabilities() -> None:
    """Leave this process, if it is root's, what any other user has: its own files."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(_CAPABILITIES_MAX):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)  # else a program would get them back
    libc.capset(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), bytes(24))


def _allow(libc: ctypes.CDLL, rules: int, path: str, access: int) -> None:
    with contextlib.suppress(OSError):
        folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not os.path.isdir(path):
                access &= _OF_FILES
            libc.syscall(_ADD, rules, 1, struct.pack("=Qi", access, folder), 0)
        finally:
            os.close(folder)
