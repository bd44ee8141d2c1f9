"""How far what became of a skill raises or sinks it among what is found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

HALF_LIFE_DAYS = 180
_TOP = 1.5  # of a skill that was seen often, always helped, and lately


def standing(provenance: Mapping[str, Any], today: date | None = None) -> float:
    """The factor on a document's score: 1 without statistics; of a skill ``1.5 x confidence x agreement x freshness``.

    ``confidence`` is n / (n + 1) of n uses; ``agreement`` the share of them that point where their mean does (a contradicted skill has
    half of it); ``freshness`` halves in 180 days since the last use, and is 1 without ``today``.
    """
    uses, agreeing = _count(provenance, "uses"), _count(provenance, "agreeing")
    if not uses:
        return 1.0
    return _TOP * uses / (uses + 1) * min(1.0, agreeing / uses) * _freshness(provenance, today)


def _freshness(provenance: Mapping[str, Any], today: date | None) -> float:
    try:
        last = date.fromisoformat(str(provenance.get("last_seen")))
    except ValueError:
        return 1.0
    return 1.0 if today is None else 0.5 ** (max(0, (today - last).days) / HALF_LIFE_DAYS)


def _count(provenance: Mapping[str, Any], name: str) -> int:
    value = provenance.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
