"""Programs in the place of LibreOffice, each with its own way to go wrong."""

from __future__ import annotations

from pathlib import Path

_FIND = """#!/bin/sh
for word in "$@"; do
  if [ "$before" = --outdir ]; then out="$word"; fi
  if [ "$before" = --convert-to ]; then ending="$word"; fi
  before="$word"
done
mkdir -p "$out"
new="$out/file.$ending"
"""

HONEST = 'cp "$before" "$new"\n'
"""Gives back what it got, under the new name."""

NAP_S = "1234.5"
"""How long they sleep that hang."""

FAULTS = {
    "hangs": f"sleep {NAP_S}\n",
    "hangs-apart": f"setsid sleep {NAP_S} &\nsleep {NAP_S}\n",
    "crashes": "kill -SEGV $$\n",
    "fails": "exit 7\n",
    "writes-nothing": "exit 0\n",
    "writes-much": 'cat /dev/zero > "$new"\n',
    "writes-many": "while i=$((i+1)); do head -c 7000000 /dev/zero > $HOME/$i; done\n",
    "writes-a-link": 'ln -s /etc/passwd "$new"\n',
    "writes-a-pipe": 'mkfifo "$new"\n',
    "starts-many": f"while true; do sleep {NAP_S} & done\n",
    "burns": "while true; do :; done\n",
}


def install(folder: Path, does: str) -> None:
    """Put a `soffice` that does this into a folder."""
    folder.mkdir(exist_ok=True)
    program = folder / "soffice"
    program.write_text(_FIND + does)
    program.chmod(0o755)
