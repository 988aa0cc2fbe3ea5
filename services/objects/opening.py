"""The object store that the settings say, a room of it for each kind of objects."""

from __future__ import annotations

from typing import Literal, TypeAlias

from services.config import Settings
from services.objects.directory import DirectoryStore
from services.objects.seam import ObjectStore

Room: TypeAlias = Literal["segments", "files"]
"""Segments of indexes; files of documents. Nobody looks into, or sweeps, the other's room."""


def open_objects(settings: Settings, room: Room) -> ObjectStore:
    """The object store of one kind of objects. The caller closes it."""
    root = settings.objects.directory or settings.index.objects_dir or settings.data_dir / "objects"
    # Segments lie in the directory itself, as they did when there was nothing else.
    return DirectoryStore(root if room == "segments" else root / "files")
