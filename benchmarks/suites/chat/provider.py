"""A provider that speaks the OpenAI chat completions protocol over HTTP and says what a script has
for each question."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

_PASSAGE = re.compile(r"passage (\d+) \S+\n(.*?)\nend ", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Line:
    """What is said, and the sentence of a passage that it was made from."""

    text: str
    source: str


class Provider:
    """A context that serves. A reply cites the passage of the prompt that has its source."""

    def __init__(self) -> None:
        self.script: dict[str, Line] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = provider.reply(body)
                chunks: list[dict[str, Any]] = [
                    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": text}}]},
                    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                    {
                        "choices": [],
                        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
                    },
                ]
                shared = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
                lines = [f"data: {json.dumps({**shared, **chunk})}\n\n" for chunk in chunks]
                data = "".join([*lines, "data: [DONE]\n\n"]).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing: a line a request would be in the way of the report."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """What a configuration names it by."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reply(self, body: dict[str, Any]) -> str:
        """What the script has for the question of a request, with the number of its passage."""
        prompt = "\n".join(str(message.get("content")) for message in body["messages"])
        question = next((one for one in self.script if f"Question: {one}" in prompt), None)
        if question is None:
            return "NO_ANSWER"
        line = self.script[question]
        numbers = [n for n, text in _PASSAGE.findall(prompt) if line.source in text]
        return f"{line.text} [{numbers[0] if numbers else 1}]"

    def __enter__(self) -> Provider:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
