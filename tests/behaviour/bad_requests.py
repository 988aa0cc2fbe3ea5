"""What a request can be wrong by: the parts that the tables of the services share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from google.protobuf.message import Message

from services.rpc.paging import write_token


@dataclass(frozen=True, slots=True)
class Bad:
    """A request that is refused, and why. `unroutable` says that a name in it does not fit the
    path, so that over REST there is no such method; `in_json` is false for what JSON cannot say."""

    what: str
    request: Message | tuple[Message, ...]
    reason: str = "INVALID_FIELD"
    unroutable: bool = False
    in_json: bool = True


@dataclass(frozen=True, slots=True)
class World:
    """What exists for the requests that name something."""

    vectors: str
    """A collection of vectors of 8, with the point `here`."""
    texts: str
    """A collection with the default model and the point `here`."""
    document: str
    """A document of `texts` that is searchable."""
    job: str
    """The job that made it so."""
    snapshot: str
    """A snapshot of `vectors`."""
    migrating: str
    """A collection of vectors of 8 whose second index is ready."""
    cancelled: str
    """A job of `texts` that was cancelled."""
    session: str
    """A session of two messages, the second after the first."""
    memory: str = "memories/m"
    """A fact of the subject `ada`."""


Table = dict[str, Callable[[World], Iterator[Bad]]]
"""For each RPC, its bad requests."""

NAN, INF = float("nan"), float("inf")


def paged(make: Callable[..., Message]) -> Iterator[Bad]:
    """What is wrong with a page."""
    yield Bad("page_size below zero", make(page_size=-1))
    yield Bad("page_size over 1,000", make(page_size=1_001))
    yield Bad("page_token damaged", make(page_token="AAAA"), "INVALID_PAGE_TOKEN")
    yield Bad("page_token no base 64", make(page_token="%%%"), "INVALID_PAGE_TOKEN")
    foreign = write_token("another list", "x")
    yield Bad("page_token of another list", make(page_token=foreign), "INVALID_PAGE_TOKEN")


def named(make: Callable[[str], Message], form: str) -> Iterator[Bad]:
    """What is wrong with a name. `form` is such as `collections/{}`."""
    yield Bad("name missing", make(""), unroutable=True)
    yield Bad("name of another kind", make("bananas/1"), unroutable=True)
    yield Bad("id with capitals", make(form.format("UPPER")))
    yield Bad("id too long", make(form.format("x" * 64)))
    yield Bad("id that ends with a hyphen", make(form.format("x-")))


def identified(make: Callable[..., Message]) -> Iterator[Bad]:
    """What is wrong with a request_id."""
    yield Bad("request_id no UUID", make(request_id="again"))
