"""The state-of-the-world protocol, against a client that keeps count."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from google.protobuf import any_pb2
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.snapshot import ORDER, Resource, Snapshot, version_of
from services.gateway.stream import Request, Response, StreamState, receive, respond
from services.gateway.xds import CLUSTER, ENDPOINT, LISTENER, ROUTE

NAMES = ("one", "two", "three")


def resource(name: str, content: str) -> Resource:
    return Resource(name, {}, any_pb2.Any(), content)


def snapshot(areas: frozenset[str], revision: int = 0) -> Snapshot:
    """Clusters and endpoints of these areas, one listener, and routes to exactly these areas."""
    resources = {
        CLUSTER: {a: resource(a, "cluster") for a in sorted(areas)},
        ENDPOINT: {a: resource(a, f"endpoints {revision}") for a in sorted(areas)},
        LISTENER: {"gateway": resource("gateway", "listener")},
        ROUTE: {"gateway": resource("gateway", " ".join(sorted(areas)))},
    }
    everything = [r for t in ORDER for r in resources[t].values()]
    return Snapshot("gateway", resources, version_of(everything))


def revised(one: Snapshot) -> Snapshot:
    """The same with every resource's content changed, and routes to the same clusters."""
    changed = {
        type_url: {n: replace(r, digest=f"{r.digest} ") for n, r in resources.items()}
        for type_url, resources in one.resources.items()
    }
    return replace(one, resources=changed, version="revised")


@dataclass
class EnvoyLike:
    """Subscribes as Envoy does, and checks on every acceptance that no route leads nowhere."""

    state: StreamState = field(default_factory=StreamState)
    has: dict[str, dict[str, str]] = field(default_factory=lambda: {t: {} for t in ORDER})
    unanswered: list[Response] = field(default_factory=list)
    nonces: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    read_nonces: dict[str, str] = field(default_factory=dict)

    def ask(self, type_url: str, *names: str) -> None:
        """A request with the nonce of the last response that this client has read: stale, and so
        ignored, if another is under way. The answer to that one brings the names."""
        self.names[type_url] = names
        self.send(type_url, self.read_nonces.get(type_url, ""), None)

    def send(self, type_url: str, nonce: str, error: str | None) -> None:
        self.read_nonces[type_url] = nonce
        request = Request(type_url, self.names.get(type_url, ()), nonce, error)
        self.state = receive(self.state, request)

    def pump(self, wanted: Snapshot) -> None:
        self.state, response = respond(self.state, wanted)
        while response is not None:
            assert response.type_url not in {r.type_url for r in self.unanswered}
            assert response.nonce not in self.nonces
            assert response.version != self.rejected.get(response.type_url)
            self.nonces.append(response.nonce)
            self.unanswered.append(response)
            self.state, response = respond(self.state, wanted)

    def answer(self, position: int, accept: bool) -> None:
        response = self.unanswered.pop(position % len(self.unanswered))
        type_url = response.type_url
        if not accept:
            self.rejected[type_url] = response.version
            self.send(type_url, response.nonce, "no")
            return
        self.rejected.pop(type_url, None)
        self.has[type_url] = {r.name: r.digest for r in response.resources}
        self.send(type_url, response.nonce, None)
        if type_url == CLUSTER:
            self.ask(ENDPOINT, *self.has[CLUSTER])
        if type_url == LISTENER:
            self.ask(ROUTE, "gateway")
        self.check()

    def check(self) -> None:
        routed = set(self.has[ROUTE].get("gateway", "").split())
        assert routed <= set(self.has[CLUSTER])

    def settle(self, wanted: Snapshot) -> None:
        for _ in range(40):
            self.pump(wanted)
            if not self.unanswered:
                return
            self.answer(0, True)
        raise AssertionError("no end of responses")


_STEPS = st.one_of(
    st.tuples(st.just("publish"), st.frozensets(st.sampled_from(NAMES), min_size=1)),
    st.tuples(st.just("answer"), st.tuples(st.integers(0, 3), st.booleans())),
    st.tuples(st.just("stale"), st.sampled_from(ORDER)),
)


@given(st.lists(_STEPS, max_size=40))
def test_whatever_happens_routes_lead_somewhere_and_all_is_delivered(
    steps: list[tuple[str, object]],
) -> None:
    client, wanted = EnvoyLike(), snapshot(frozenset({"one"}))
    client.ask(CLUSTER)
    client.ask(LISTENER)
    for number, (kind, value) in enumerate(steps):
        if kind == "publish":
            assert isinstance(value, frozenset)
            wanted = snapshot(value, number)
        elif kind == "stale":
            before = client.state
            client.state = receive(client.state, Request(str(value), ("x",), "stale", "no"))
            if value in before.types:
                assert client.state == before
            else:
                client.state = before
        elif client.unanswered:
            assert isinstance(value, tuple)
            client.answer(*value)
        client.pump(wanted)
    # A client that stops rejecting gets the next revision whole, whatever was before.
    wanted = revised(snapshot(frozenset({"two", "three"})))
    client.settle(wanted)
    for type_url in ORDER:
        expected = {n: r.digest for n, r in wanted.resources[type_url].items()}
        assert client.has[type_url] == expected


def connected(wanted: Snapshot) -> EnvoyLike:
    client = EnvoyLike()
    client.ask(CLUSTER)
    client.ask(LISTENER)
    client.settle(wanted)
    return client


def test_nothing_is_sent_twice() -> None:
    wanted = snapshot(frozenset(NAMES))
    client = connected(wanted)
    sent = len(client.nonces)
    client.pump(snapshot(frozenset(NAMES)))
    assert len(client.nonces) == sent


def test_a_change_of_clusters_sends_unchanged_endpoints_again() -> None:
    client = connected(snapshot(frozenset({"one"})))
    wanted = snapshot(frozenset({"one"}))
    changed = {**wanted.resources, CLUSTER: {"one": resource("one", "other")}}
    new = Snapshot("gateway", changed, "v")
    client.pump(new)
    assert [r.type_url for r in client.unanswered] == [CLUSTER]
    client.answer(0, True)
    client.pump(new)
    assert [r.type_url for r in client.unanswered] == [ENDPOINT]


def test_a_rejected_version_comes_again_only_changed() -> None:
    client = connected(snapshot(frozenset({"one"})))
    client.pump(snapshot(frozenset({"one"}), 1))
    client.answer(0, False)
    assert client.state.types[ENDPOINT].error == "no"
    client.pump(snapshot(frozenset({"one"}), 1))
    assert client.unanswered == []
    client.settle(snapshot(frozenset({"one"}), 2))
    assert client.has[ENDPOINT] == {"one": "endpoints 2"}
    assert client.state.types[ENDPOINT].error == ""


def test_rejected_routes_keep_the_clusters_that_old_routes_need() -> None:
    client = connected(snapshot(frozenset({"one", "two"})))
    wanted = snapshot(frozenset({"two"}))
    client.pump(wanted)
    while client.unanswered:
        position = len(client.unanswered) - 1
        client.answer(position, client.unanswered[position].type_url != ROUTE)
        client.pump(wanted)
    assert set(client.has[CLUSTER]) == {"one", "two"}


def test_no_names_mean_all_until_the_first_name() -> None:
    wanted = snapshot(frozenset(NAMES))
    state = receive(StreamState(), Request(CLUSTER))
    state, response = respond(state, wanted)
    assert response is not None
    assert [r.name for r in response.resources] == sorted(NAMES)
    state = receive(state, Request(CLUSTER, ("one",), response.nonce))
    state = receive(state, Request(CLUSTER, (), response.nonce))
    assert not state.types[CLUSTER].wildcard


def test_a_named_resource_that_does_not_exist_is_answered_with_nothing() -> None:
    state = receive(StreamState(), Request(LISTENER, ("nope",)))
    _, response = respond(state, snapshot(frozenset(NAMES)))
    assert response is not None
    assert response.resources == ()
