"""What a client knows between calls: its address, defaults, and the writes it has to see again."""

from __future__ import annotations

import math
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

from ragmesh._names import refuse

Lane = Literal["interactive", "bulk"]

TIMEOUT_S = 30.0
# Collections whose last write is remembered; the longest unused is forgotten first.
WATERMARKS_MAX = 10_000
LANE_KEY = "x-ragmesh-lane"
REQUEST_ID_KEY = "x-request-id"
_SCHEMES = ("unix:", "xds:", "dns:")
# gRPC's own and ours: a caller's metadata may not set them.
_RESERVED = (LANE_KEY, REQUEST_ID_KEY)


class Session:
    """The state that one client shares among its calls; safe to use from several threads.

    Invariant: `_watermarks[c]` is the highest commit of collection `c` that this client was told
    of since it last made or deleted `c`.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = TIMEOUT_S,
        metadata: Mapping[str, str] | None = None,
        lane: Lane = "interactive",
        consistent_reads: bool = True,
    ) -> None:
        if not address or ("://" in address and not address.startswith(_SCHEMES)):
            raise refuse(
                "address",
                f"is {address!r}; give `host:port`, `unix:/path` or `xds:///name`, not a URL.",
            )
        self.address = address
        self.timeout_s = seconds(timeout_s)
        self.lane = checked_lane(lane)
        self.consistent_reads = consistent_reads
        self._metadata = tuple((k.lower(), v) for k, v in (metadata or {}).items())
        for key, _ in self._metadata:
            if key in _RESERVED or key.startswith(("grpc-", ":")):
                raise refuse("metadata", f"has the key {key!r}, which the client sets itself.")
        self._watermarks: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def headers(self, request_id: str, lane: Lane | None) -> tuple[tuple[str, str], ...]:
        """The metadata of one call."""
        headers = (*self._metadata, (REQUEST_ID_KEY, request_id))
        if checked_lane(lane or self.lane) == "bulk":
            headers = (*headers, (LANE_KEY, "bulk"))
        return headers

    def remember(self, collection: str, watermark: str) -> None:
        """Notes a commit of `collections/{id}`; an empty watermark says nothing."""
        if not watermark.isdecimal():
            return
        with self._lock:
            highest = max(int(watermark), self._watermarks.pop(collection, 0))
            self._watermarks[collection] = highest
            if len(self._watermarks) > WATERMARKS_MAX:
                self._watermarks.popitem(last=False)

    def forget(self, collection: str) -> None:
        """A collection that is made anew counts from the beginning."""
        with self._lock:
            self._watermarks.pop(collection, None)

    def min_watermark(self, collection: str, given: str | None) -> str:
        """What a read of the collection has to wait for: the caller's word, else what we wrote."""
        if given is not None:
            return given
        if not self.consistent_reads:
            return ""
        with self._lock:
            known = self._watermarks.get(collection)
        return "" if known is None else str(known)


def seconds(timeout_s: float) -> float:
    """A usable time limit; raises InvalidField for any other."""
    if not 0 < timeout_s < math.inf:
        raise refuse("timeout_s", f"is {timeout_s!r}; give seconds above 0 and finite.")
    return float(timeout_s)


def checked_lane(lane: Lane) -> Lane:
    """Raises InvalidField for an unknown lane."""
    if lane not in ("interactive", "bulk"):
        raise refuse("lane", f"is {lane!r}; give `interactive` or `bulk`.")
    return lane


def write_id(given: str | None) -> str:
    """The `request_id` of a write: the caller's, or a new one."""
    return given or str(uuid.uuid4())


def part_id(given: str | None, part: int) -> str:
    """The `request_id` of one request of a write that may be split; `part` counts from 0.

    Derived from the caller's, so that the same call repeated is the same requests repeated.
    """
    if given is None or part == 0:
        return write_id(given)
    try:
        return str(uuid.uuid5(uuid.UUID(given), str(part)))
    except ValueError as error:
        raise refuse("request_id", f"is {given!r}; give a UUID.") from error
