"""What one ADS stream has been sent and has answered: pure state, no sockets.

The state-of-the-world protocol, as far as it matters here:

- Clusters, then endpoints, then listeners, then routes. Nothing is sent while clusters or
  endpoints are unanswered, and neither listeners nor routes while clusters are rejected, so that
  no route names a cluster that the client does not have yet.
- Clusters that disappear are kept in what is sent until listeners and routes are accepted.
- A request that echoes the last nonce is an ACK, or a NACK if it carries an error. Any other
  nonce is stale and ignored; the first request of a type on a stream has none.
- A rejected version is not sent again unchanged.
- An accepted change of clusters makes Envoy wait for endpoints anew, even if they did not
  change: they are sent again, with a fresh nonce.
- No names mean all (clusters and listeners only) until the client names something once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.gateway.snapshot import ORDER, Resource, Resources, Snapshot, version_of
from services.gateway.xds import CLUSTER, ENDPOINT, LISTENER, ROUTE


@dataclass(frozen=True, slots=True)
class Request:
    """A DiscoveryRequest; `error` is the text of its `error_detail`, None for none."""

    type_url: str
    names: tuple[str, ...] = ()
    nonce: str = ""
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """A DiscoveryResponse."""

    type_url: str
    version: str
    nonce: str
    resources: tuple[Resource, ...]


@dataclass(frozen=True, slots=True)
class TypeState:
    """One type on one stream. `sent` is what the last response held, whatever became of it, and
    `accepted` what the client has; `waiting` says that the response is unanswered, `due` that an
    answer is owed whatever the version."""

    names: frozenset[str] = frozenset()
    wildcard: bool = False
    named_once: bool = False
    nonce: str = ""
    sent_version: str = ""
    sent: Resources = field(default_factory=dict)
    waiting: bool = False
    due: bool = True
    accepted_version: str = ""
    accepted: Resources = field(default_factory=dict)
    rejected_version: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class StreamState:
    """All types that the client asked for, and the number of responses so far."""

    types: Mapping[str, TypeState] = field(default_factory=dict)
    responses: int = 0

    def with_type(self, type_url: str, state: TypeState) -> StreamState:
        """The same with one type changed."""
        return replace(self, types={**self.types, type_url: state})


def receive(state: StreamState, request: Request) -> StreamState:
    """The state after a request. Types that nobody serves are ignored."""
    if request.type_url not in ORDER:
        return state
    before = state.types.get(request.type_url)
    if before is None:
        return state.with_type(request.type_url, _subscribed(TypeState(), request))
    if request.nonce != before.nonce:
        return state
    after = _subscribed(before, request)
    if not before.waiting:
        return state.with_type(request.type_url, after)
    if request.error is not None:
        after = replace(
            after, waiting=False, rejected_version=before.sent_version, error=request.error
        )
        return state.with_type(request.type_url, after)
    after = replace(
        after,
        waiting=False,
        accepted_version=before.sent_version,
        accepted=before.sent,
        rejected_version="",
        error="",
    )
    state = state.with_type(request.type_url, after)
    changed = before.sent_version != before.accepted_version
    endpoints = state.types.get(ENDPOINT)
    if request.type_url == CLUSTER and changed and endpoints is not None:
        state = state.with_type(ENDPOINT, replace(endpoints, due=True))
    return state


def _subscribed(state: TypeState, request: Request) -> TypeState:
    names = frozenset(request.names)
    named_once = state.named_once or bool(names)
    named_types = request.type_url in (ENDPOINT, ROUTE)
    wildcard = "*" in names or (not named_once and not named_types)
    new = names - state.names or (wildcard and not state.wildcard)
    return replace(
        state,
        names=names,
        wildcard=wildcard,
        named_once=named_once,
        due=state.due or bool(new),
    )


def respond(state: StreamState, snapshot: Snapshot) -> tuple[StreamState, Response | None]:
    """The next response that is due, if one is. Call until there is none."""
    for type_url in ORDER:
        one = state.types.get(type_url)
        if one is None:
            continue
        if one.waiting:
            if type_url in (CLUSTER, ENDPOINT):
                return state, None
            continue
        if type_url in (LISTENER, ROUTE) and _clusters_rejected(state):
            continue
        wanted = _wanted(state, snapshot, type_url)
        version = version_of(wanted.values())
        rejected = version == one.rejected_version
        if rejected or not (one.due or version != one.sent_version):
            continue
        if type_url in (ENDPOINT, ROUTE) and not wanted:
            continue
        nonce = str(state.responses + 1)
        response = Response(type_url, version, nonce, tuple(wanted.values()))
        after = replace(
            one, nonce=nonce, sent_version=version, sent=wanted, waiting=True, due=False
        )
        return replace(state.with_type(type_url, after), responses=state.responses + 1), response
    return state, None


def _clusters_rejected(state: StreamState) -> bool:
    clusters = state.types.get(CLUSTER)
    return clusters is not None and bool(clusters.rejected_version)


def _wanted(state: StreamState, snapshot: Snapshot, type_url: str) -> Resources:
    """What the client should have now of a type, by name."""
    one = state.types[type_url]
    available = dict(snapshot.resources[type_url])
    if type_url in (CLUSTER, ENDPOINT) and not _references_settled(state, snapshot):
        available = {**one.accepted, **available}
    if one.wildcard:
        return dict(sorted(available.items()))
    return {name: available[name] for name in sorted(one.names) if name in available}


def _references_settled(state: StreamState, snapshot: Snapshot) -> bool:
    """Whether the client has accepted the snapshot's listeners and routes."""
    for type_url in (LISTENER, ROUTE):
        one = state.types.get(type_url)
        if one is not None and one.accepted_version != version_of(
            _wanted(state, snapshot, type_url).values()
        ):
            return False
    return True
