"""A server on this machine that speaks the providers' wire formats, by a script: one answer a request."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Plain:
    """A response in one piece, as errors come."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Events:
    """A stream of server-sent events. ``cut``: the connection breaks after them; ``pause_s``: before each of them."""

    events: Sequence[str]
    cut: bool = False
    pause_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: Any
    at_s: float


class Server:
    """Answers by its script, the last answer for good; ``asked``: what came."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self._script: list[Plain | Events] = []
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http.block_on_close = False  # a stream that trickles is not waited for
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def will(self, *answers: Plain | Events) -> None:
        self._script = list(answers)

    def take(self, asked: Asked) -> Plain | Events:
        with self._lock:
            self.asked.append(asked)
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the client went at its deadline
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            answer = server.take(
                Asked(
                    path=self.path, headers={name.lower(): value for name, value in self.headers.items()}, body=body, at_s=time.monotonic()
                )
            )
            self.plain(answer) if isinstance(answer, Plain) else self.stream(answer)

        def plain(self, answer: Plain) -> None:
            data = (answer.body if isinstance(answer.body, str) else json.dumps(answer.body)).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def stream(self, answer: Events) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in answer.events:
                time.sleep(answer.pause_s)
                data = event.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                self.wfile.flush()
            if answer.cut:
                self.close_connection = True
                self.connection.shutdown(2)
            else:
                self.wfile.write(b"0\r\n\r\n")

    return Handler


def sse(data: Mapping[str, Any], *, named: bool = True) -> str:
    return (f"event: {data['type']}\n" if named else "") + f"data: {json.dumps(data)}\n\n"


def pieces(text: str, count: int = 3) -> list[str]:
    """The text cut up, as it would come."""
    size = -(-len(text) // count) or 1
    return [text[at : at + size] for at in range(0, len(text), size)]


# ---- Anthropic: Messages


def messages(
    blocks: Iterable[Mapping[str, Any]] = (),
    *,
    stop: str = "end_turn",
    usage: Mapping[str, int] | None = None,
    output: int = 7,
    details: Mapping[str, Any] | None = None,
) -> list[str]:
    """The events of a reply. A block: ``text=…``, ``thinking=…, signature=…`` or ``tool=…, id=…, json=…``."""
    begun = {"input_tokens": 11, "output_tokens": 1} | (usage or {})
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "model-2026", "content": [], "stop_reason": None}
    events: list[dict[str, Any]] = [{"type": "message_start", "message": head | {"stop_sequence": None, "usage": begun}}]
    events.append({"type": "ping"})
    for index, block in enumerate(blocks):
        start, deltas = _block(block)
        events.append({"type": "content_block_start", "index": index, "content_block": start})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": stop, "stop_sequence": None} | ({"stop_details": dict(details)} if details else {})
    events.append({"type": "message_delta", "delta": delta, "usage": {"output_tokens": output}})
    events.append({"type": "message_stop"})
    return [sse(event) for event in events]


def _block(block: Mapping[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if "tool" in block:
        start = {"type": "tool_use", "id": block["id"], "name": block["tool"], "input": {}}
        return start, [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *pieces(block["json"])]]
    if "thinking" in block:
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        return {"type": "thinking", "thinking": "", "signature": ""}, [
            *deltas,
            {"type": "signature_delta", "signature": block["signature"]},
        ]
    return {"type": "text", "text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]


def anthropic_error(kind: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


# ---- OpenAI: Responses


def responses(
    items: Sequence[Mapping[str, Any]] = (),
    *,
    status: str = "completed",
    usage: Mapping[str, Any] | None = None,
    incomplete: str = "",
    error: Mapping[str, Any] | None = None,
) -> list[str]:
    """The events of a reply made of these output items (see ``said``, ``called``, ``refused``, ``reasoned``)."""
    told = usage or {"input_tokens": 11, "output_tokens": 7}
    final = _response(status) | {
        "output": [dict(item) for item in items],
        "usage": {
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 0,
            **told,
        },
        "incomplete_details": {"reason": incomplete} if incomplete else None,
        "error": error,
    }
    events: list[dict[str, Any]] = [{"type": "response.created", "response": _response("in_progress")}]
    for index, item in enumerate(items):
        events.append({"type": "response.output_item.added", "output_index": index, "item": dict(item)})
        for piece in pieces(item.get("arguments", "")):
            events.append({"type": "response.function_call_arguments.delta", "item_id": item["id"], "output_index": index, "delta": piece})
        events.append({"type": "response.output_item.done", "output_index": index, "item": dict(item)})
    events.append({"type": f"response.{status}", "response": final})
    return [sse(event | {"sequence_number": number}) for number, event in enumerate(events)]


def _response(status: str) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": status,
        "model": "model-2026",
        "output": [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "usage": None,
    }


_numbers = itertools.count()


def _item(**fields: Any) -> dict[str, Any]:
    return {"id": f"item_{next(_numbers)}", "status": "completed", **fields}


def said(text: str) -> dict[str, Any]:
    return _item(type="message", role="assistant", content=[{"type": "output_text", "text": text, "annotations": []}])


def refused(text: str) -> dict[str, Any]:
    return _item(type="message", role="assistant", content=[{"type": "refusal", "refusal": text}])


def called(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return _item(type="function_call", call_id=call_id, name=name, arguments=arguments)


def reasoned(encrypted: str | None) -> dict[str, Any]:
    return {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": encrypted}


def openai_error(message: str, *, kind: str = "invalid_request_error", code: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


# ---- OpenAI: chat completions


def chunks(*deltas: Mapping[str, Any], finish: str = "stop", usage: Mapping[str, Any] | None = None, done: bool = True) -> list[str]:
    """The chunks of a reply; ``finish`` empty: it breaks off before its end."""
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": dict(delta), "finish_reason": None}] for delta in deltas]
    if finish:
        choices.append([{"index": 0, "delta": {}, "finish_reason": finish}])
    told: list[dict[str, Any]] = [{"choices": choice, "usage": None} for choice in choices]
    if usage is not None:
        told.append({"choices": [], "usage": {"total_tokens": 0, **usage}})
    head = {"id": "chat_1", "object": "chat.completion.chunk", "created": 1, "model": "served-model"}
    return [sse(head | chunk, named=False) for chunk in told] + (["data: [DONE]\n\n"] if done else [])


def piece_of_call(index: int, *, id: str | None = None, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    function = ({"name": name} if name else {}) | {"arguments": arguments}
    return {"tool_calls": [{"index": index, "function": function} | ({"id": id, "type": "function"} if id else {})]}
