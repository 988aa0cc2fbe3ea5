"""How channels are set up, the same for both clients."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ragmesh._plan import MESSAGE_BYTES_MAX

try:
    VERSION = version("ragmesh")
except PackageNotFoundError:  # run from a source tree that is not installed
    VERSION = "0"

# Envoy and servers refuse more than 16 MiB themselves, with the limit named; the headroom lets
# their answer, rather than gRPC's bare one, reach the caller.
_HEADROOM_BYTES = 1024 * 1024
# Servers tolerate a ping without data every five minutes unless told otherwise, and answer faster
# ones with GOAWAY "too_many_pings"; ragmesh's allow one each 15 s (gRPC's doc/keepalive.md).
_KEEPALIVE_MS = 30_000
_KEEPALIVE_TIMEOUT_MS = 20_000

OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX + _HEADROOM_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX + _HEADROOM_BYTES),
    ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 0),
    # A server that came back is found again in a second, not after a minute of backoff.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.primary_user_agent", f"ragmesh-python/{VERSION}"),
)
