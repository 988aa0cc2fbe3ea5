"""A real gRPC server whose answers each test writes: the other side of the client's promises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc
from google.protobuf import any_pb2, descriptor, duration_pb2, message_factory
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from ragmesh.api.chat.v1 import chat_service_pb2
from ragmesh.api.documents.v1 import document_service_pb2
from ragmesh.api.embedding.v1 import embedding_service_pb2
from ragmesh.api.generation.v1 import generation_service_pb2
from ragmesh.api.memory.v1 import memory_service_pb2
from ragmesh.api.retrieval.v1 import retrieval_service_pb2

FILES = (
    embedding_service_pb2,
    retrieval_service_pb2,
    document_service_pb2,
    memory_service_pb2,
    generation_service_pb2,
    chat_service_pb2,
)
METHODS: dict[str, descriptor.MethodDescriptor] = {
    method.name: method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}

Answer = Callable[[Any, grpc.ServicerContext], Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """One attempt that arrived."""

    request: Any
    metadata: dict[str, str]
    time_remaining_s: float


@dataclass
class ScriptedServer(grpc.GenericRpcHandler):
    """Answers a method with what its test says, and keeps what arrived."""

    address: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    seen: dict[str, list[Seen]] = field(default_factory=dict)

    def on(self, method: str, *answers: Answer | Message) -> None:
        """Gives the answers one after the other; the last one from then on."""
        assert method in METHODS
        queue = list(answers)
        self.seen[method] = []

        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            following = queue.pop(0) if len(queue) > 1 else queue[0]
            return following if isinstance(following, Message) else following(request, context)

        self.answers[method] = answer

    def requests(self, method: str) -> list[Any]:
        """The requests of a method, in the order they came."""
        return [seen.request for seen in self.seen[method]]

    def service(self, call: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        method = METHODS[call.method.rpartition("/")[2]]
        answer = self.answers.get(method.name)
        if answer is None:
            return None

        def handle(request: Any, context: grpc.ServicerContext) -> Any:
            if method.client_streaming:
                request = list(request)
            metadata = {k: str(v) for k, v in context.invocation_metadata()}
            self.seen[method.name].append(Seen(request, metadata, context.time_remaining()))
            return answer(request, context)

        make: Any = grpc.unary_unary_rpc_method_handler
        if method.server_streaming:
            make = grpc.unary_stream_rpc_method_handler
        elif method.client_streaming:
            make = grpc.stream_unary_rpc_method_handler
        handler: grpc.RpcMethodHandler[Any, Any] = make(
            handle,
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=message_factory.GetMessageClass(
                method.output_type
            ).SerializeToString,
        )
        return handler


def start(address: str = "localhost:0") -> tuple[grpc.Server, ScriptedServer]:
    """A server on a port of its own, or where it is told."""
    script = ScriptedServer()
    options = [("grpc.max_receive_message_length", 32 << 20), ("grpc.so_reuseport", 0)]
    server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[script], options=options)
    script.address = f"localhost:{server.add_insecure_port(address)}"
    server.start()
    return server, script


def status(
    code: grpc.StatusCode,
    message: str,
    *,
    reason: str = "",
    metadata: Mapping[str, str] | None = None,
    violations: Sequence[tuple[str, str]] = (),
    retry_after_s: float | None = None,
) -> status_pb2.Status:
    """A failure as ragmesh describes it."""
    details: list[Message] = []
    if reason:
        details.append(
            error_details_pb2.ErrorInfo(domain="ragmesh", reason=reason, metadata=metadata)
        )
    if violations:
        bad = error_details_pb2.BadRequest()
        for path, description in violations:
            bad.field_violations.add(field=path, description=description)
        details.append(bad)
    if retry_after_s is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after_s * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    result = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        result.details.append(packed)
    return result


def failing(code: grpc.StatusCode, message: str = "no", **details: Any) -> Answer:
    """The answer that is this failure."""

    def answer(request: Any, context: grpc.ServicerContext) -> NoReturn:
        described = status(code, message, **details)
        if described.details:
            data = described.SerializeToString()
            context.set_trailing_metadata((("grpc-status-details-bin", data),))
        context.abort(code, message)

    return answer


def then_failing(messages: Sequence[Message], fail: Answer) -> Answer:
    """A stream that gives the messages and is then cut."""

    def answer(request: Any, context: grpc.ServicerContext) -> Iterator[Message]:
        yield from messages
        fail(request, context)

    return answer


def streaming(*messages: Message) -> Answer:
    """A stream of the messages."""
    return lambda request, context: iter(messages)
