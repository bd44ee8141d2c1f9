"""Which documents concern a device, a language, a family of operators and a phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kevolve.knowledge.documents import Document

GENERAL = "general"
# An architecture's name says whose it is. What no line here knows is a user's own: the device's `vendor`, or its name's first word.
_MAKERS = {"sm": "nvidia", "gfx": "amd", "x86": "x86", "avx": "x86", "mtia": "mtia"}
_X86_LEVELS = {"x86-64-v3": ("avx2",), "x86-64-v4": ("avx2", "avx512")}
_X86_FEATURES = {"amx_tile": "amx", "avx512f": "avx512", "avx2": "avx2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What documents are wanted for; an empty field asks for nothing."""

    vendor: str = ""
    architectures: tuple[str, ...] = ()
    language: str = ""
    families: tuple[str, ...] = ()
    phase: str = ""


def device_scope(device: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The maker and the architectures that a target's ``device()`` stands for, its generation's first one included.

    ``vendor`` and ``features`` (a line of the processor's flags) are read where the target gives them.
    """
    arch, name = str(device.get("arch", "")), str(device.get("name", ""))
    maker = next((vendor for prefix, vendor in _MAKERS.items() if arch.startswith(prefix)), "")
    vendor = str(device.get("vendor") or maker or name.partition(" ")[0]).lower()
    features = tuple(short for flag, short in _X86_FEATURES.items() if flag in str(device.get("features", "")).split())
    return vendor, tuple(dict.fromkeys((*_X86_LEVELS.get(arch, (arch, *generation(arch)) if arch else ()), *features)))


def generation(arch: str) -> tuple[str, ...]:
    """The architecture whose documents hold for ``arch`` too: ``sm86`` is read as ``sm80``, ``gfx941`` as ``gfx942``."""
    if arch.startswith("sm") and arch[2:].rstrip("abcdef").isdigit():
        return (f"sm{arch[2:].rstrip('abcdef')[:-1]}0",)
    return {"gfx940": ("gfx942",), "gfx941": ("gfx942",)}.get(arch, ())


def admits(document: Document, scope: Scope) -> bool:
    """Whether ``document`` concerns ``scope``: in every field it says nothing, or something that is asked for.

    The phase only ranks: how masks are written is read by whoever mends one, too.
    """
    return (
        (not document.vendor or not scope.vendor or scope.vendor in document.vendor)
        and _meets(document.architectures, scope.architectures)
        and (not document.languages or not scope.language or scope.language in document.languages)
        and (GENERAL in document.families or _meets(document.families, scope.families))
    )


def _meets(said: tuple[str, ...], wanted: tuple[str, ...]) -> bool:
    return not said or not wanted or not set(said).isdisjoint(wanted)
