"""Where a transport answers before ragmesh can: the only differences between the rungs that are
allowed. Every row is also written down in protos/README.md, under "What differs by transport".

A row says what a caller of one rung gets where all others get the reason of the table of errors.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.behaviour.damage import Damage


@dataclass(frozen=True, slots=True)
class Answer:
    """The canonical code, and our reason; empty where the transport knows none."""

    code: str
    reason: str


ANSWERED = Answer("OK", "")
"""The call is answered as if nothing were wrong."""


UNROUTABLE = "a name that does not have the form of its path"
DEADLINE_OVER = "a deadline that is over before the call begins"

EXPECTED: dict[Damage | str, Answer] = {
    Damage.UNKNOWN_FIELD: Answer("INVALID_ARGUMENT", "INVALID_FIELD"),
    Damage.BAD_UTF8: Answer("INVALID_ARGUMENT", "MALFORMED_MESSAGE"),
    Damage.NOT_A_MESSAGE: Answer("INVALID_ARGUMENT", "MALFORMED_MESSAGE"),
    Damage.TOO_LARGE: Answer("RESOURCE_EXHAUSTED", "MESSAGE_TOO_LARGE"),
    UNROUTABLE: Answer("INVALID_ARGUMENT", "INVALID_FIELD"),
    DEADLINE_OVER: Answer("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
}
"""What ragmesh itself says."""

_NO_REASON_LARGE = Answer("RESOURCE_EXHAUSTED", "")
_NO_REASON_DEADLINE = Answer("DEADLINE_EXCEEDED", "")

DIFFERENCES: dict[tuple[str, Damage | str], Answer] = {
    # gRPC refuses a message over 17 MiB while it reads it; up to there we say it, with the reason.
    ("grpc", Damage.TOO_LARGE): _NO_REASON_LARGE,
    ("split", Damage.TOO_LARGE): _NO_REASON_LARGE,
    # A gRPC client ends a call whose time is over by itself and sends nothing.
    ("grpc", DEADLINE_OVER): _NO_REASON_DEADLINE,
    ("split", DEADLINE_OVER): _NO_REASON_DEADLINE,
    # Envoy's transcoder drops fields of a body that the contract does not have, and has no switch
    # against it. In a query they are refused like everywhere.
    ("rest", Damage.UNKNOWN_FIELD): ANSWERED,
    # A path that no rule matches is no method at all.
    ("rest", UNROUTABLE): Answer("NOT_FOUND", "METHOD_NOT_FOUND"),
}


NAMES_NO_FIELD = {"rest": "the path or the query does not fit the request"}
"""Where the transport itself reads a value that does not fit its field, the reason is the same and
the sentence says which value, but no BadRequest names the field: how such a sentence begins."""


def expected(rung: str, what: Damage | str, *, in_body: bool = True) -> Answer:
    """What a caller of a rung gets."""
    if what is Damage.UNKNOWN_FIELD and not in_body:
        return EXPECTED[what]
    return DIFFERENCES.get((rung, what), EXPECTED[what])
