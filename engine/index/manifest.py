"""What a node remembers of an index between two lives: its segments, and which rows of them live.

The buffer is not in it: its rows come from the log again. Two generations are kept, so that one
whose writing was cut short, or that does not read, costs a longer replay and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.errors import DataLoss
from engine.index.files import read_arrays, write_arrays
from engine.index.payloads import Mask
from engine.index.view import View

GENERATIONS = 2
_NAME = re.compile(r"manifest-(\d{20})-([0-9a-f]{8})")


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state at `watermark`. `live` has a mask for each segment, by name. `sealed_seq`: living
    rows of later commits are in no segment."""

    watermark: int
    change_id: str
    sealed_seq: int
    live: Mapping[str, Mask]


def manifest_of(view: View, sealed_seq: int) -> Manifest:
    """What is to be remembered of a view."""
    sealed = [(one.sealed, one.live) for one in view.segments]
    live = {segment.name: mask for segment, mask in sealed if segment is not None}
    return Manifest(view.watermark, view.change_id, sealed_seq, live)


def save_manifest(manifest: Manifest, folder: Path) -> None:
    """Write the next generation, then drop those that are too many. Raises OSError."""
    names = list(manifest.live)
    masks = [manifest.live[name] for name in names]
    short = manifest.change_id.replace("-", "")[:8].rjust(8, "0")
    write_arrays(
        folder / f"manifest-{manifest.watermark:020d}-{short}",
        {f"live.{number}": np.packbits(mask) for number, mask in enumerate(masks)},
        {
            "watermark": manifest.watermark,
            "change_id": manifest.change_id,
            "sealed_seq": manifest.sealed_seq,
            "segments": [[name, len(mask)] for name, mask in zip(names, masks, strict=True)],
        },
    )
    for old in _generations(folder)[GENERATIONS:]:
        old.unlink(missing_ok=True)


def load_manifests(folder: Path) -> list[Manifest]:
    """The generations that can be read, newest first."""
    found = []
    for path in _generations(folder):
        try:
            found.append(_load(path))
        except DataLoss:
            path.unlink(missing_ok=True)
    return found


def _generations(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    named = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    return sorted(named, key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _load(path: Path) -> Manifest:
    file = read_arrays(path, check=True)
    try:
        live = {}
        for number, (name, count) in enumerate(file.facts["segments"]):
            bits = file.arrays[f"live.{number}"]
            live[name] = np.unpackbits(bits, count=count).astype(np.bool_)
        return Manifest(
            int(file.facts["watermark"]),
            str(file.facts["change_id"]),
            int(file.facts["sealed_seq"]),
            live,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataLoss(
            f"{path.name} is no manifest: {error}. The index is rebuilt from the log.",
            metadata={"file": path.name},
        ) from error
