"""From the search loop's events to a progress listener."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kevolve.report.progress import Listener
    from kevolve.search.loop import Progress


def follow(listener: Listener, spec: str) -> Callable[[Progress], None]:
    """A listener for ``kevolve.search.loop.Search`` that tells ``listener`` about the search for ``spec``.

    Duplicates are kept in the graph but not told: nothing was run for them.
    """

    def told(event: Progress) -> None:
        best = event.best.fitness if event.best is not None else None
        if event.kind == "trying" and event.proposal is not None:
            listener.trying(event.proposal.idea, event.seconds_left)
        elif event.kind == "done" and event.node is not None:
            node = event.node
            listener.attempt(event.evaluations, node.proposal.idea, node.outcome, node.fitness, best, event.seconds_left)
        elif event.kind == "stopped":
            listener.finished(spec, best, event.evaluations, event.reason)

    return told
