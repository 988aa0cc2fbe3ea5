"""`python -m benchmarks.peers [list | prepare [name …]]`."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.peers.environment import Peer, find, installed_apart


def main(arguments: Sequence[str] | None = None) -> int:
    """Says which peers are installed, or installs them. 1 where one could not be."""
    given = _parser().parse_args(arguments)
    peers: list[Peer] = given.peers or installed_apart()
    failed = False
    for peer in peers:
        if given.action == "prepare":
            try:
                peer.prepare()
            except (subprocess.CalledProcessError, OSError) as error:
                failed = True
                print(f"{peer.name}: {error}", file=sys.stderr)
        state = "installed" if peer.is_ready else "not installed"
        print(f"{peer.name}: {state}: {', '.join(peer.requirements)}: {peer.directory}")
    return 1 if failed else 0


def _peer(name: str) -> Peer:
    try:
        return find(name)
    except LookupError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("action", choices=("list", "prepare"), nargs="?", default="list")
    parser.add_argument("peers", nargs="*", type=_peer, metavar="name", help="all by default")
    return parser


if __name__ == "__main__":
    sys.exit(main())
