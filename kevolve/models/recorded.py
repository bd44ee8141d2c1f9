"""Every exchange kept, so that a run replays offline: JSON lines, by the hash of a request, in order.

A line is either a piece of requests (``{"piece": HASH, "value": …}``: a system text, a message, the tools), written once however
often it is sent again, or an exchange that names its pieces. A line that a killed process left unfinished is no exchange.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

from kevolve.models import Failure, Message, Model, ModelFailed, Part, Reply, Request, Text, ToolCall, ToolResult, Usage, Work
from kevolve.models.providers import Surroundings, UnusableModel
from kevolve.models.redaction import hider, redact, redacted

_PARTS: Mapping[str, type[Text | ToolCall | ToolResult]] = {"text": Text, "call": ToolCall, "result": ToolResult}
_KINDS = {cls: kind for kind, cls in _PARTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What was asked of a model and what came back: ``reply``, or ``failure`` (kind, message, usage).

    ``work``: what a command did in its folder; None for a model that works in none.
    """

    model: str
    tools: bool
    key: str
    request: Mapping[str, Any]
    reply: Mapping[str, Any] | None = None
    failure: Mapping[str, Any] | None = None
    work: Mapping[str, Any] | None = None


class Recorder:
    """Keeps exchanges in one file, for any number of models and threads. ``hide``: takes secrets out of what is written."""

    def __init__(self, path: Path, *, hide: Callable[[str], str] = redact) -> None:
        self.path, self.hide = path, hide
        self._lock = threading.Lock()
        self._known: set[str] = set()
        path.parent.mkdir(parents=True, exist_ok=True)
        self._unfinished = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")

    def around(self, model: Model) -> Model:
        """The model, every exchange of which is kept."""
        return _Recorded(model=model, recorder=self)

    def keep(self, model: Model, request: Request, *, reply: Reply | None = None, failure: ModelFailed | None = None) -> None:
        """Write one exchange, and the pieces of its request that are new."""
        pieces, order = _pieces(request, self.hide)
        entry = {
            "model": model.name,
            "tools": model.tools,
            "key": _digest(order),
            "request": order,
            "reply": _reply_data(reply) if reply else None,
            "failure": _failure_data(failure) if failure else None,
        }
        if request.desk is not None and works_in_folder(model):
            entry["work"] = asdict(request.desk.done())
        with self._lock:
            fresh = [{"piece": digest, "value": value} for digest, value in pieces.items() if digest not in self._known]
            self._write([*fresh, redacted(entry, self.hide)])
            self._known |= pieces.keys()

    def _write(self, lines: list[Any]) -> None:
        """One write, appended: what two processes write does not mix."""
        text = ("\n" if self._unfinished else "") + "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
        self._unfinished = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    model: Model
    recorder: Recorder

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def tools(self) -> bool:
        return self.model.tools

    @property
    def works_in_folder(self) -> bool:
        return works_in_folder(self.model)

    def reply(self, request: Request) -> Reply:
        try:
            reply = self.model.reply(request)
        except ModelFailed as failure:
            self.recorder.keep(self.model, request, failure=failure)
            raise
        self.recorder.keep(self.model, request, reply=reply)
        return reply


def works_in_folder(model: Model) -> bool:
    """Whether a model's requests must have a ``workspace`` (a coding agent's command), recorded or not."""
    return bool(getattr(model, "works_in_folder", False))


class Recording:
    """The exchanges of a file, to be replayed. Raises ``UnusableModel`` where there is no such file."""

    def __init__(self, path: Path, *, hide: Callable[[str], str] = redact) -> None:
        self.path, self.hide = path, hide
        self._lock = threading.Lock()
        self._left: dict[tuple[str, str], deque[Exchange]] = defaultdict(deque)
        self.models: dict[str, bool] = {}  # and whether it took tools
        self.folders: set[str] = set()  # models that worked in one
        if not path.is_file():
            raise UnusableModel(f"recorded:{path}: expected a file of recorded exchanges; there is none: record a run first")
        for exchange in exchanges(path):
            self.models[exchange.model] = exchange.tools
            if exchange.work is not None:
                self.folders.add(exchange.model)
            self._left[exchange.model, exchange.key].append(exchange)

    def model(self, name: str) -> Model:
        """A model that answers as it did. Raises ``UnusableModel`` where nothing of it was recorded."""
        if name not in self.models:
            raise UnusableModel(f"recorded:{self.path}: nothing of {name!r}; recorded: {', '.join(self.models) or 'none'}")
        return Replayed(name=name, tools=self.models[name], works_in_folder=name in self.folders, recording=self)

    def next(self, name: str, request: Request) -> Exchange:
        """The next exchange of this request, which is then spent. Raises ``ModelFailed`` where there is none left."""
        order = _pieces(request, self.hide)[1]
        with self._lock:
            left = self._left.get((name, _digest(order)))
            if left:
                return left.popleft()
            unspent = [queue[0] for (model, _), queue in self._left.items() if model == name and queue]
        raise ModelFailed("request", f"{name}: {_missing(self.path, order, unspent)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A model of a recording: the same name, the same answers, no network."""

    name: str
    tools: bool
    recording: Recording = field(repr=False)
    works_in_folder: bool = False

    def reply(self, request: Request) -> Reply:
        """What was answered to this request, its folder as it was left. Raises ``ModelFailed``, also where the exchange had failed."""
        exchange = self.recording.next(self.name, request)
        if exchange.work is not None and request.desk is not None:
            request.desk.redo(_work(exchange.work))
        if exchange.failure is not None:
            kind = exchange.failure["kind"]
            known: Failure = kind if kind in get_args(Failure) else "request"
            raise ModelFailed(known, exchange.failure["message"], usage=Usage(**exchange.failure["usage"]))
        assert exchange.reply is not None
        return _reply(exchange.reply)


def exchanges(path: Path) -> Iterator[Exchange]:
    """The exchanges of a file in order, their requests whole again."""
    pieces: dict[str, Any] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # unfinished: the process was killed while it wrote
            if "piece" in entry:
                pieces[entry["piece"]] = entry["value"]
            else:
                yield Exchange(**entry | {"request": _whole(entry["request"], pieces)})


def request_key(request: Request) -> str:
    """The hash by which a request is found again: system, turns, tools and limit; neither deadline nor folder."""
    return _digest(_pieces(request, redact)[1])


def factory() -> Callable[..., Model]:
    """The registered way in: ``recorded:PATH``."""
    return make


def make(text: str, surroundings: Surroundings, *, tools: bool) -> Model:
    """The one model of a recording. Raises ``UnusableModel`` where there is no file, or not one model in it."""
    recording = Recording(Path(text).expanduser(), hide=hider(surroundings.environment))
    if len(recording.models) != 1:
        raise UnusableModel(f"recorded:{text}: expected one model's exchanges; recorded: {', '.join(recording.models) or 'none'}")
    return recording.model(next(iter(recording.models)))


def _pieces(request: Request, hide: Callable[[str], str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request's pieces by their hash, and the request as their order. Redacted before it is hashed, so that it is found again."""
    pieces: dict[str, Any] = {}

    def put(value: Any) -> str:
        clean = redacted(value, hide)
        digest = _digest(clean)
        pieces[digest] = clean
        return digest

    order = {
        "system": put(request.system),
        "messages": [put(_turn_data(message)) for message in request.messages],
        "tools": put([asdict(tool) for tool in request.tools]),
        "max_output_tokens": request.max_output_tokens,
    }
    return pieces, order


def _whole(order: Mapping[str, Any], pieces: Mapping[str, Any]) -> dict[str, Any]:
    messages = [pieces.get(digest) for digest in order["messages"]]
    return {**order, "system": pieces.get(order["system"]), "messages": messages, "tools": pieces.get(order["tools"])}


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:32]


def _missing(path: Path, order: Mapping[str, Any], unspent: list[Exchange]) -> str:
    """What to look at when a replay leaves the record."""
    if not unspent:
        return f"{path} has no exchange left; the run went on past the recorded one: give it the same budget"
    recorded = unspent[0].request
    same = {"system": _digest(recorded["system"]) == order["system"], "tools": _digest(recorded["tools"]) == order["tools"]}
    turns = [_digest(turn) for turn in recorded["messages"]]
    same["messages"] = turns == order["messages"]
    differing = ", ".join(name for name, is_same in same.items() if not is_same) or "max_output_tokens"
    return f"{path} has no such request; the next recorded one differs in {differing}: same seed, spec, options and version of kevolve?"


def _turn_data(message: Message) -> dict[str, Any]:
    """Without ``raw``: it is the provider's, and follows from the replies."""
    return {"role": message.role, "parts": [_part_data(part) for part in message.parts]}


def _part_data(part: Part) -> dict[str, Any]:
    return {"part": _KINDS[type(part)], **asdict(part)}


def _part(data: Mapping[str, Any]) -> Part:
    return _PARTS[data["part"]](**{key: value for key, value in data.items() if key != "part"})


def _reply_data(reply: Reply) -> dict[str, Any]:
    return {
        "message": {**_turn_data(reply.message), "raw": reply.message.raw},
        "usage": asdict(reply.usage),
        "stop": reply.stop,
        "model": reply.model,
        "seconds": reply.seconds,
    }


def _reply(data: Mapping[str, Any]) -> Reply:
    told = data["message"]
    message = Message(role=told["role"], parts=tuple(_part(part) for part in told["parts"]), raw=told["raw"])
    return Reply(message=message, usage=Usage(**data["usage"]), stop=data["stop"], model=data["model"], seconds=data["seconds"])


def _work(data: Mapping[str, Any]) -> Work:
    return Work(evaluations=tuple((kind, source) for kind, source in data["evaluations"]), files=dict(data["files"]))


def _failure_data(failure: ModelFailed) -> dict[str, Any]:
    return {"kind": failure.kind, "message": str(failure), "usage": asdict(failure.usage)}
