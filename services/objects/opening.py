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
    given = settings.objects
    if given.s3_bucket:
        from services.objects.s3 import Bucket, BucketStore  # 20 MB that a directory needs not

        prefix = "/".join(part for part in (given.s3_prefix.strip("/"), room) if part)
        bucket = Bucket(
            given.s3_bucket,
            prefix,
            given.s3_endpoint,
            given.s3_region,
            given.s3_access_key_id,
            given.s3_secret_access_key.get_secret_value(),
        )
        return BucketStore(bucket, settings.data_dir / "objects" / f"scratch-{room}")
    root = given.directory or settings.index.objects_dir or settings.data_dir / "objects"
    # Segments lie in the directory itself, as they did when there was nothing else.
    return DirectoryStore(root if room == "segments" else root / "files")
