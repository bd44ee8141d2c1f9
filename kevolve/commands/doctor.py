"""``kevolve doctor``: what this machine can do."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kevolve import doctor as examination
from kevolve.evaluate.client import Workers

STORE = Path(".kevolve") / "cache"  # as the plugin has it, below the rootdir
EXIT_READY, EXIT_NOT_READY = 0, 1
_EXIT_CODES = """exit status:
  0  kernels can be built and run here
  1  they cannot: the text says what is missing and how to install it
  2  the command line was wrong"""


def main(arguments: Sequence[str]) -> int:
    """Examine the machine and say what was found. Peaks measured once are kept in ``STORE`` where there is one."""
    parser = argparse.ArgumentParser(
        prog="kevolve doctor",
        description="Targets with measured peaks, languages, profilers, isolation, packages, and what is missing.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="the same as JSON on stdout")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="kevolve-") as scratch, Workers(sys_path=(), scratch=Path(scratch)) as workers:
        chosen = os.environ.get("KEVOLVE_CACHE")
        cache = Path(chosen) if chosen else STORE if STORE.is_dir() else Path(scratch) / "cache"
        found = examination.examine(cache=cache, isolation=lambda target, language: workers.isolation(target=target, language=language))
    print(json.dumps(found, indent=2) if given.json else examination.render(found))
    return EXIT_READY if found["ready"] else EXIT_NOT_READY
