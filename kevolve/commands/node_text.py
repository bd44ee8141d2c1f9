"""One node as text for people: what was tried and why, what came of it, what it cost, and how its author got there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kevolve.commands.tree import gave
from kevolve.models import Usage
from kevolve.report import text, words
from kevolve.search.node import Node

_SHORT = 12  # lines of each message of a transcript, unless all are wanted
_INDENT = "  "


def render(node: Node, family: Sequence[Node], decision: Mapping[str, Any], *, full: bool) -> Iterator[tuple[str, str]]:
    """(heading, text) pairs; the first heading is the node's own. ``family``: the nodes of its spec. ``full``: transcripts whole."""
    by_id = {other.id: other for other in family}
    yield f"node {node.id} of {words.line(node.spec)} on {words.line(node.target)}", "\n".join(_facts(node, by_id, family))
    if node.outcome.message:
        yield "outcome", words.block(node.outcome.message)
    if details := _details(node.outcome.detail):
        yield "measured", details
    if node.proposal.hypothesis:
        yield "hypothesis", words.block(node.proposal.hypothesis)
    if node.proposal.problem:
        yield "no candidate, because", words.block(node.proposal.problem)
    if decision:
        yield "decision", _aligned({name: words.line(json.dumps(value, ensure_ascii=False)) for name, value in decision.items()})
    if node.proposal.source:
        yield f"source ({node.proposal.language})", words.block(node.proposal.source.rstrip("\n"))
    if node.proposal.transcript:
        yield from _transcript(node.proposal.transcript, full=full)


def _facts(node: Node, by_id: Mapping[int, Node], family: Sequence[Node]) -> Iterator[str]:
    proposal = node.proposal
    children = [other for other in family if node.id in other.proposal.parents]
    facts = {
        "gave": f"{gave(node)}, {node.outcome.status.value} in stage {node.outcome.stage.value}" if node.works else _failed(node),
        "idea": words.line(proposal.idea),
        "by": words.line(f"{proposal.operator} {proposal.model}".strip()) + f", memory: {words.line(proposal.memory)}",
        "parents": ", ".join(_relative(number, by_id) for number in proposal.parents) or "none",
        "children": ", ".join(_relative(child.id, by_id) for child in children) or "none",
        "knobs": words.line(json.dumps(dict(proposal.knobs), ensure_ascii=False)) if proposal.knobs else "",
        "gain": gain(node, by_id),
        "cost": cost(proposal.usage),
        "time": f"{text.duration(proposal.seconds)} to propose, {text.duration(node.seconds)} to evaluate",
        "when": f"run {node.run}, {words.line(node.created)}",
        "spec version": words.line(node.spec_hash),
    }
    yield _aligned({name: value for name, value in facts.items() if value})


def _failed(node: Node) -> str:
    return f"{node.outcome.status.value} in stage {node.outcome.stage.value}"


def _relative(number: int, by_id: Mapping[int, Node]) -> str:
    return f"#{number} ({gave(by_id[number])})" if number in by_id else f"#{number}"


def gain(node: Node, by_id: Mapping[int, Node]) -> str:
    """What its author predicted and what was measured, as factors of the best parent's speedup; empty where nothing is known."""
    reached = max((by_id[parent].fitness for parent in node.proposal.parents if parent in by_id), default=0.0)
    measured = f"measured {text.digits(node.fitness / reached)}x" if reached > 0 and node.fitness > 0 else "not measured"
    if node.proposal.predicted_gain is not None:
        return f"predicted {text.digits(node.proposal.predicted_gain)}x, {measured}"
    return f"{measured} of the best parent's" if reached > 0 and node.fitness > 0 else ""


def cost(usage: Usage) -> str:
    """``12,300 tokens (8,000 read, 3,000 from the cache, 1,300 written), $0.12``; empty where no model was asked."""
    if not usage.tokens:
        return ""
    counts = {
        "read": usage.input_tokens,
        "from the cache": usage.cached_tokens,
        "into the cache": usage.cache_write_tokens,
        "written": usage.output_tokens,
    }
    parts = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    price = "price unknown" if usage.usd is None else f"${usage.usd:.4f}"
    return f"{text.plural(usage.tokens, 'token')} ({parts}), {price}"


def _details(detail: Mapping[str, Any]) -> str:
    """The outcome's data: figures by case as a table, the rest as JSON."""
    shown: dict[str, str] = {}
    for name, value in detail.items():
        if isinstance(value, dict) and value and all(isinstance(inner, int | float) for inner in value.values()):
            shown[name] = ", ".join(f"{words.line(str(key))} {inner:.4g}" for key, inner in value.items())
        elif value not in (None, "", [], {}):
            shown[name] = words.line(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), 400)
    return _aligned(shown)


def _aligned(values: Mapping[str, str]) -> str:
    width = max((len(words.line(name)) for name in values), default=0)
    return "\n".join(f"{words.line(name):<{width}}  {value}" for name, value in values.items())


def _transcript(kept: str, *, full: bool) -> Iterator[tuple[str, str]]:
    """What a model was sent and what it answered, as ``kevolve.operators`` keep it; of another form, as it is."""
    try:
        found = json.loads(kept)
        messages = list(found["messages"])
        prompt = found.get("prompt", {})
    except (ValueError, KeyError, TypeError, AttributeError):
        yield "transcript", _cut(words.block(kept), full=full)
        return
    if sections := _sections(prompt):
        yield "prompt", sections
    if found.get("system"):
        yield "transcript: system", _cut(words.block(str(found["system"])), full=full)
    for number, message in enumerate(messages, 1):
        if isinstance(message, dict):
            yield f"transcript: {number} {words.line(str(message.get('role', '')))}", _cut(_message(message), full=full)


def _sections(prompt: Any) -> str:
    sections = prompt.get("sections", ()) if isinstance(prompt, dict) else ()
    rows = {}
    for part in sections:
        if isinstance(part, dict):
            left = f", {words.line(str(part['left_out']))} left out" if part.get("left_out") else ""
            rows[str(part.get("name"))] = f"{part.get('tokens')} of {part.get('budget')} tokens{left}"
    return _aligned(rows)


def _message(message: Mapping[str, Any]) -> str:
    parts = message.get("parts", message.get("content", ""))
    return "\n".join(_part(part) for part in (parts if isinstance(parts, list) else [parts]))


def _part(part: Any) -> str:
    if not isinstance(part, dict):
        return words.block(str(part))
    if "call" in part:
        arguments = part.get("arguments")
        named = arguments.items() if isinstance(arguments, dict) else [("", arguments)]
        return "\n".join(
            [f"calls {words.line(str(part['call']))}", *(f"{_INDENT}{words.line(str(name))}: {_value(value)}" for name, value in named)]
        )
    if "result" in part:
        return ("failed: " if part.get("failed") else "result: ") + words.block(str(part.get("text", "")))
    return words.block(str(part.get("text", json.dumps(part, ensure_ascii=False))))


def _value(value: Any) -> str:
    return words.block(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).replace("\n", f"\n{_INDENT * 2}")


def _cut(shown: str, *, full: bool) -> str:
    lines = shown.split("\n")
    if full or len(lines) <= _SHORT + 1:
        return shown
    return "\n".join([*lines[:_SHORT], f"… {len(lines) - _SHORT} more lines (--full)"])
