"""How far a skill's statistics raise or sink it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def standing(provenance: Mapping[str, Any]) -> float:
    """1 for a document without statistics."""
    return 1.0
