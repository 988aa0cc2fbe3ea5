"""The bridge as a process: one ASGI application on one port, which only the gateway calls."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import Iterator

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute

from engine.errors import InvalidField, MethodNotFound
from services.bridge import convert
from services.bridge.events import AnswerEvents, Room
from services.bridge.openai import OpenAI
from services.bridge.socket import MESSAGE_BYTES_MAX, AnswerSocket
from services.bridge.uploads import Refusal, Uploads
from services.config import Settings, check_exposure
from services.mesh.mesh import Mesh
from services.rpc.call import DefaultIdentity, HeaderIdentity, Identity, request_id_of
from services.rpc.chain import Chain, Gate

EVENTS_PATH = "/v1/answers/{answer}:events"
SOCKET_PATH = "/v1/chat:connect"
OPENAI_PATH = "/v1/openai"
UPLOAD_PATH = "/v1/collections/{collection}/documents:upload"
STOP_GRACE_S = 10.0
"""How long uploads that have begun may go on once the bridge is told to stop."""


def application(settings: Settings, mesh: Mesh) -> Starlette:
    """What it answers: uploads, events and sockets of answers, OpenAI's API, and
    `GET /healthz`."""
    header = settings.node.identity == "header"
    identity: Identity = HeaderIdentity() if header else DefaultIdentity()
    uploads = Uploads(settings.bridge, settings.documents.file_bytes_max, mesh, identity)
    room = Room(settings.bridge.streams_max)
    answers = AnswerEvents(settings.bridge, mesh, identity, room)
    openai = OpenAI(mesh, identity, room, settings.node.message_bytes_max)
    return Starlette(
        routes=[
            Route("/healthz", _healthy, methods=["GET"]),
            Route(UPLOAD_PATH, uploads.upload, methods=["POST"]),
            Route(EVENTS_PATH, answers.events, methods=["GET"]),
            WebSocketRoute(SOCKET_PATH, AnswerSocket(mesh, identity, room).connect),
            Route(f"{OPENAI_PATH}/chat/completions", openai.completions, methods=["POST"]),
            Route(f"{OPENAI_PATH}/embeddings", openai.embeddings, methods=["POST"]),
            Route(f"{OPENAI_PATH}/models", openai.models, methods=["GET"]),
            Route(f"{OPENAI_PATH}/models/{{model:path}}", openai.model, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _unknown},
    )


async def run_bridge(settings: Settings, stop: asyncio.Event) -> None:
    """Serves until `stop` is set, then finishes what it has. Raises InvalidField for a port that
    is taken, or for an address beyond loopback while nothing checks who calls."""
    listen = settings.bridge.listen
    check_exposure("bridge.listen", listen, settings.node.allow_unauthenticated)
    host, _, port = listen.rpartition(":")
    # Envoy makes as many connections as the usual limit has files; refused uploads count too.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    mesh = Mesh(
        Chain(Gate(settings.bridge.uploads_max), {}, settings.node.message_bytes_max),
        {"*": "xds:///{service}"},
        settings.node.message_bytes_max,
    )
    # Now rather than at the first call, so that the control plane knows of it.
    for area in ("documents", "chat", "generation", "embedding"):
        mesh.channel(area).get_state(try_to_connect=True)
    server = _Server(
        uvicorn.Config(
            application(settings, mesh),
            host=host.strip("[]"),
            port=int(port),
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES_MAX,
            lifespan="off",
            log_config=None,
            access_log=False,  # Envoy has one
            server_header=False,
            date_header=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=round(STOP_GRACE_S),
        )
    )
    serving = asyncio.create_task(server.serve(), name="bridge")
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([serving, stopped], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
    except SystemExit as error:
        raise InvalidField(
            f"{listen} cannot be bound. Is another bridge there? Choose another port with "
            "RAGMESH_BRIDGE__LISTEN.",
            field="bridge.listen",
            metadata={"listen": listen},
        ) from error
    finally:
        stopped.cancel()
        await mesh.close()


class _Server(uvicorn.Server):
    """uvicorn, to which signals are another's business."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _healthy(request: Request) -> Response:
    return PlainTextResponse("ok")


async def _unknown(request: Request, error: Exception) -> Response:
    unknown = MethodNotFound(
        "no such path or method; GET /openapi.json lists them",
        metadata={"path": request.url.path},
    )
    answer = convert.failure(unknown, request_id_of(dict(request.headers)))
    return Refusal(answer, goes_on=True)
