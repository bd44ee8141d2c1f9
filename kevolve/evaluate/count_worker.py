"""The untrusted side of counting: the loaded candidate is called with every item while its language counts what it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kevolve import registry
from kevolve.evaluate.arena import Mapped
from kevolve.evaluate.state import WorkerState, private_copy


def handle(state: WorkerState, arguments: Mapping[str, Any], fds: tuple[int, ...]) -> dict[str, Any]:
    """Figures by name, of one item after another. ``mutates``: positions of inputs that the call may change."""
    mapped = Mapped(fds[0], arguments["layout"], place=state.target.place)
    counts = []
    with registry.load("languages", arguments["language"]).counting() as counted:
        for number in range(len(mapped.layout)):
            state.begin(number)
            inputs: list[Any] = mapped.take(number)
            for position in arguments["mutates"]:
                inputs[position] = private_copy(inputs[position])
            prepared = state.prepared(inputs)
            counted.take()  # preparing is not part of a call
            state.call(prepared)
            counts.append(counted.take())
    return {"counts": counts}
