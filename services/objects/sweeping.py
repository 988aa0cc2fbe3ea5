"""What nothing names any more is swept out of an object store, and what was never named."""

from __future__ import annotations

import asyncio
import logging

from engine.errors import RagmeshError
from services.objects.seam import ObjectStore, ObjectStoreFailed
from services.store import cleanup
from services.store.cleanup import SEGMENT_FILES, ObjectKind
from services.store.store import Store

_LOG = logging.getLogger(__name__)

UNNAMED_KEPT_S = 3600.0
"""How old an object is that nothing names before it is swept. Younger ones are on their way."""
ROUND_S = 60.0
"""Between two rounds of deleting what is condemned."""
ROUNDS_PER_LISTING = 60
"""The whole store is listed once an hour."""
_NAMES_AT_ONCE = 500


async def tend_objects(
    store: Store, objects: ObjectStore, kind: ObjectKind = SEGMENT_FILES
) -> None:
    """Deletes what is condemned, and sweeps, until cancelled. On every node that has `objects`,
    which are all of one `kind`."""
    rounds = 0
    while True:
        try:
            if rounds % ROUNDS_PER_LISTING == 0:
                await condemn_unnamed(store, objects, kind=kind)
                await objects.tidy(UNNAMED_KEPT_S)
            await delete_condemned(store, objects, kind=kind)
        except RagmeshError as error:
            _LOG.info("objects are swept later: %s", error.message)
        except Exception:
            _LOG.exception("sweeping the objects failed and is tried again later")
        rounds += 1
        await asyncio.sleep(ROUND_S)


async def condemn_unnamed(
    store: Store,
    objects: ObjectStore,
    *,
    kept_s: float = UNNAMED_KEPT_S,
    kind: ObjectKind = SEGMENT_FILES,
) -> int:
    """Condemn objects older than `kept_s` that no row of any tenant names: who put them did not
    live to name them. How many."""
    old = [bytes.fromhex(o.name) async for o in objects.names() if o.age_s > kept_s]
    condemned = 0
    for start in range(0, len(old), _NAMES_AT_ONCE):
        async with store.system() as tx:
            condemned += await cleanup.condemn_objects(
                tx, old[start : start + _NAMES_AT_ONCE], kind
            )
    return condemned


async def delete_condemned(
    store: Store, objects: ObjectStore, *, kind: ObjectKind = SEGMENT_FILES
) -> int:
    """Delete the objects that are condemned, some at a time; how many. One that cannot be deleted
    stays condemned, for the next round."""
    total = 0
    while True:
        deleted, refused = [], False
        async with store.system() as tx:
            names = await cleanup.take_condemned(tx, kind)
            for name in names:
                try:
                    await objects.delete(name.hex())
                    deleted.append(name)
                except ObjectStoreFailed as error:
                    refused = True
                    _LOG.warning("%s", error.message)
            await cleanup.pardon_objects(tx, deleted, kind)
        total += len(deleted)
        if refused or not names:
            return total
