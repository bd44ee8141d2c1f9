"""A record as the note of a GitLab merge request. Pure functions."""

from __future__ import annotations

from kevolve.report.github import fitted
from kevolve.report.markdown import render
from kevolve.report.record import Record

NOTE_BYTES = 1_000_000  # characters, of a note; in bytes it is never more
MARK = "<!-- kevolve -->"  # at the start, so that a job finds its own note again


def note(record: Record, *, limit: int = NOTE_BYTES) -> str:
    """The Markdown report within a note's limit, worst first. No line begins with a slash: GitLab would run it as a quick action."""
    return fitted(lambda most: f"{MARK}\n{_inert(render(record, most=most))}", limit)


def _inert(shown: str) -> str:
    """Lines of messages that begin with a slash stand in fences, where nothing is run; they are moved by a blank all the same."""
    return "\n".join(f" {line}" if line.startswith("/") else line for line in shown.split("\n"))
