"""The ``kevolve`` command. Kernels are made by ``pytest --kevolve-optimize``; this says what the machine can do."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

STORE = Path(".kevolve") / "cache"  # as the plugin has it, below the rootdir

EXIT_READY, EXIT_NOT_READY = 0, 1
_EXIT_CODES = """exit status:
  0  kernels can be built and run here
  1  they cannot: the text says what is missing and how to install it
  2  the command line was wrong"""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kevolve",
        description="A kernel spec is a pytest test; `pytest --kevolve-optimize` writes the kernel that passes it.",
    )
    top.add_argument("--version", action="version", version=f"kevolve {version('kevolve')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor = commands.add_parser(
        "doctor",
        help="say what this machine can do",
        description="Targets with measured peaks, languages, profilers, isolation, packages, and what is missing.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("--json", action="store_true", help="the same as JSON on stdout")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit status."""
    given = parser().parse_args(arguments)
    if sys.platform != "linux":
        sys.stderr.write(f"kevolve: expected Linux, got {sys.platform}: use a Linux machine, a container or WSL\n")
        return EXIT_NOT_READY
    return doctor(as_json=given.json)


def doctor(*, as_json: bool) -> int:
    """Examine the machine and say what was found. Peaks measured once are kept in ``STORE`` where there is one."""
    from kevolve import doctor as examination
    from kevolve.evaluate.client import Workers

    with tempfile.TemporaryDirectory(prefix="kevolve-") as scratch, Workers(sys_path=(), scratch=Path(scratch)) as workers:
        chosen = os.environ.get("KEVOLVE_CACHE")
        cache = Path(chosen) if chosen else STORE if STORE.is_dir() else Path(scratch) / "cache"
        found = examination.examine(cache=cache, isolation=lambda target, language: workers.isolation(target=target, language=language))
    print(json.dumps(found, indent=2) if as_json else examination.render(found))
    return EXIT_READY if found["ready"] else EXIT_NOT_READY
