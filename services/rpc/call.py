"""The value that travels with a request: who asks, until when, how urgent, under which id."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol, TypeAlias

from engine.errors import DeadlineExceeded, InvalidField

Lane: TypeAlias = Literal["interactive", "bulk"]

REQUEST_ID = "x-request-id"
TENANT = "x-ragmesh-tenant"
LANE = "x-ragmesh-lane"
WATERMARK = "x-ragmesh-watermark"
TRACEPARENT = "traceparent"

_REQUEST_ID_FORM = re.compile(r"[\x21-\x7e]{1,128}")
_TENANT_FORM = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Call:
    """What every layer may know about the request it works for.

    `deadline_s` is a reading of `time.monotonic`, None for none. Cancellation is asyncio's own:
    the task that runs the handler is cancelled, in process as over a socket.
    """

    tenant: str
    request_id: str
    deadline_s: float | None = None
    lane: Lane = "interactive"
    trace: str = ""
    min_watermark: str = ""

    def remaining_s(self) -> float | None:
        """Seconds until the deadline, negative when it is over; None without one."""
        return None if self.deadline_s is None else self.deadline_s - time.monotonic()

    def require_time(self) -> None:
        """Raises DeadlineExceeded when the deadline is over."""
        remaining = self.remaining_s()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("The deadline was over before the work began.")

    def bulk(self) -> Call:
        """The same call in the bulk lane."""
        return replace(self, lane="bulk")

    def headers(self) -> list[tuple[str, str]]:
        """As gRPC metadata, for a sibling in another process."""
        pairs = [(REQUEST_ID, self.request_id), (TENANT, self.tenant), (LANE, self.lane)]
        if self.trace:
            pairs.append((TRACEPARENT, self.trace))
        if self.min_watermark:
            pairs.append((WATERMARK, self.min_watermark))
        return pairs


class Identity(Protocol):
    """Says whom a caller is, from what the transport knows of it; never from the request."""

    def tenant(self, headers: Mapping[str, str]) -> str:
        """The tenant, or an InvalidField error."""
        ...


class DefaultIdentity:
    """Everybody is the tenant `default`: until there is authentication, there is one tenant."""

    def tenant(self, headers: Mapping[str, str]) -> str:
        """`default`."""
        return "default"


class HeaderIdentity:
    """Believes the header `x-ragmesh-tenant`. For a mesh behind a proxy that authenticates and
    sets it, and for the tests' tenants; the gateway strips the header unless told otherwise."""

    def tenant(self, headers: Mapping[str, str]) -> str:
        """The header's tenant, or `default` without one."""
        tenant = headers.get(TENANT, "default")
        if not _TENANT_FORM.fullmatch(tenant):
            raise InvalidField(
                f"The tenant must match {_TENANT_FORM.pattern}.",
                field=TENANT,
                metadata={"pattern": _TENANT_FORM.pattern},
            )
        return tenant


def new_request_id() -> str:
    """An id for a request that came without one."""
    return os.urandom(16).hex()


def request_id_of(headers: Mapping[str, str]) -> str:
    """The caller's request id if it is fit for logs, else a new one."""
    given = headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID_FORM.fullmatch(given) else new_request_id()


def call_of(headers: Mapping[str, str], remaining_s: float | None, identity: Identity) -> Call:
    """Reads a Call from what the transport delivered. Raises what `identity` raises."""
    return Call(
        tenant=identity.tenant(headers),
        request_id=request_id_of(headers),
        deadline_s=None if remaining_s is None else time.monotonic() + remaining_s,
        lane="bulk" if headers.get(LANE) == "bulk" else "interactive",
        trace=headers.get(TRACEPARENT, ""),
        min_watermark=headers.get(WATERMARK, ""),
    )
