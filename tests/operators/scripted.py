"""A model that says what a test wrote for it, a lab that judges by marks in the text, and a context to propose in."""

from __future__ import annotations

import hashlib
import random
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import kevolve
from kevolve import Tensor, sizes
from kevolve.evaluate.outcome import Outcome, Stage, Status
from kevolve.models import Message, ModelFailed, Reply, Request, Text, ToolCall, Usage
from kevolve.operators import Context
from kevolve.operators.trace import Trace, untraceable
from kevolve.search.loop import Evaluated
from kevolve.search.node import Graph, Node, Proposal
from kevolve.spec.declaration import build_spec
from kevolve.spec.spec import Case, Spec
from reference_ops import norms

USAGE = Usage(input_tokens=100, cached_tokens=1_000, output_tokens=50)
KERNEL = "// rms_norm: the parent\nint block = 1;\nint lanes = 1;\nint main_part() { return block; }\n"


def call(name: str, number: int = 1, **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call-{number}", name=name, arguments=arguments)


def calls(*made: ToolCall) -> Reply:
    return Reply(message=Message(role="assistant", parts=made), usage=USAGE, stop="tools", model="scripted-1")


def says(text: str, stop: str = "done") -> Reply:
    return Reply(message=Message(role="assistant", parts=(Text(text=text),)), usage=USAGE, stop=stop, model="scripted-1")


def finish(gain: Any = 1.3, hypothesis: str = "it waits for memory", idea: str = "hold the row in registers") -> Reply:
    return calls(call("finish", hypothesis=hypothesis, predicted_gain=gain, idea=idea))


class Scripted:
    """Replies in order: a ``Reply``, a failure to raise, or a function of the request. Asked once too often, a test fails."""

    def __init__(self, *replies: Reply | ModelFailed | Callable[[Request], Reply], tools: bool = True, name: str = "scripted:one") -> None:
        self.name, self.tools = name, tools
        self.requests: list[Request] = []
        self._replies = list(replies)

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        assert self._replies, "asked once more than the test has replies"
        reply = self._replies.pop(0)
        if isinstance(reply, ModelFailed):
            raise reply
        return reply if isinstance(reply, Reply) else reply(request)

    @property
    def told(self) -> list[str]:
        """What the last request's messages say, a text each."""
        return ["\n".join(getattr(part, "text", "") for part in message.parts) for message in self.requests[-1].messages]


class FakeLab:
    """Refuses to build what holds ``error``, finds wrong what holds ``wrong``; else as fast as ``speed N`` in the text says."""

    times = True

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def _note(self, kind: str, source: str) -> None:
        with self._lock:
            self.asked.append((kind, source))

    def build(self, language: str, source: str) -> Outcome:
        self._note("build", source)
        if "error" in source:
            return Outcome(status=Status.COMPILE_ERROR, stage=Stage.COMPILE, message="kernel.cpp:2:5: error: expected ';'")
        return Outcome(status=Status.PASSED, stage=Stage.COMPILE, detail={"resources": {"registers": 40, "spill_bytes": 0}})

    def check(self, language: str, source: str) -> Outcome:
        self._note("check", source)
        if "error" in source:
            return self.build(language, source)
        if "wrong" in source:
            message = "output 0: 3 of 21 elements differ\n  [0, 2]  expected 0.25  got 0.5  error 2.0e-01"
            return Outcome(status=Status.INCORRECT_NUMERICAL, stage=Stage.PROPERTIES, message=message)
        return Outcome(status=Status.PASSED, stage=Stage.PROPERTIES, detail={"resources": {"registers": 40}})

    def evaluate(self, language: str, source: str) -> Evaluated:
        self._note("evaluate", source)
        outcome = self.check(language, source)
        proposal = Proposal(language=language, source=source, operator="agent", idea="")
        if not outcome.passed:
            return Evaluated(proposal=proposal, outcome=outcome, fitness=0.0, seconds=0.0)
        speed = float(source.partition("speed ")[2].split()[0]) if "speed " in source else 1.0
        outcome = Outcome(status=Status.PASSED, stage=Stage.QUICK, message=f"{speed:.2f}x", detail={"speedups": {"small": speed}})
        return Evaluated(proposal=proposal, outcome=outcome, fitness=speed, seconds=0.0)

    def profile(self, language: str, source: str) -> str:
        self._note("profile", source)
        return f"perf stat, per call over 20 calls:\n- cycles {len(source):,}" if "counted" in source else ""


class Plain:
    """A language without a compiler: a kernel is a text with its entry's name in it."""

    name, suffix, comment = "cpp", ".cpp", "//"

    def parse(self, source: str, entry: str) -> str | None:
        return None if entry in source else f"no entry {entry}"


def spec() -> Spec:
    @kevolve.kernel(norms.rms_norm, min_speedup=1.5, vary=dict(rows=sizes(0, 4096), cols=sizes(1, 8192)))
    def test_rms_norm(rows, cols, dtype):
        return Tensor(rows, cols, dtype=dtype), Tensor(cols, dtype=dtype)

    cases = [("small", 1024, 4096, "float32"), ("many", 16384, 256, "bfloat16")]
    made = tuple(Case(id=name, values=dict(rows=rows, cols=cols, dtype=dtype)) for name, rows, cols, dtype in cases)
    return build_spec(test_rms_norm, nodeid="suites/test_norms.py::test_rms_norm", cases=made)


FACTS: Mapping[str, Any] = {
    "device": {"name": "Imagined 9000", "arch": "sm90", "memory": "80 GiB"},
    "peaks": {
        "bandwidth": [[65536, 2.0e11], [67108864, 4.0e10]],
        "operations": {"float32": 1.2e12},
        "random_accesses": [],
        "empty_call_us": 1.5,
    },
    "cases": {"small": {"baseline_us": 900.0, "floor_us": 300.0}, "many": {"baseline_us": 700.0, "floor_us": None}},
}


def node(
    number: int, source: str = KERNEL, *, parents: Sequence[int] = (), fitness: float = 1.2, outcome: Outcome | None = None, **fields: Any
) -> Node:
    proposal = Proposal(language="cpp", source=source, operator="agent", idea=f"idea {number}", parents=tuple(parents), **fields)
    passed = Outcome(
        status=Status.PASSED, stage=Stage.QUICK, message=f"{fitness:.2f}x", detail={"speedups": {"small": fitness, "many": fitness}}
    )
    return Node(
        id=number,
        run=1,
        spec="s",
        spec_hash="h",
        target="cpu",
        proposal=proposal,
        source_hash=hashlib.sha256(source.encode()).hexdigest(),
        normal_hash=f"normal-{number}",
        outcome=outcome or passed,
        fitness=fitness if outcome is None else 0.0,
        seconds=1.0,
        created="2026-01-01T00:00:00+00:00",
    )


def failing(status: Status, message: str, stage: Stage = Stage.PROPERTIES) -> Outcome:
    return Outcome(status=status, stage=stage, message=message)


def context(nodes: Iterable[Node] = (), *, trace: Trace | None = None, **fields: Any) -> Context:
    graph = Graph.of(nodes)
    made = Context(
        spec=spec(),
        trace=trace or untraceable("not traced here"),
        target="cpu",
        language="cpp",
        graph=graph,
        sources={each.source_hash: each.proposal.source for each in graph.nodes},
        random=random.Random(0),
        lab=FakeLab(),
        seed=7,
        facts=FACTS,
    )
    return replace(made, **fields)
