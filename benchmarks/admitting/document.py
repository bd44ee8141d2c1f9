"""The page of what admission found, from the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_PARTIAL = ("last tile", "sampled prefix", "wrong axis")  # work left out, or done elsewhere: no output of nothing


def document(results: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    parts = [_INTRODUCTION, *_suites(results.get("suites", {})), *_theirs(results), *_ours(results)]
    return "\n".join(parts).rstrip() + "\n"


_INTRODUCTION = ""


def _suites(found: Mapping[str, Any]) -> Iterator[str]:
    return iter(())


def _theirs(results: Mapping[str, Any]) -> Iterator[str]:
    return iter(())


def _ours(results: Mapping[str, Any]) -> Iterator[str]:
    return iter(())
