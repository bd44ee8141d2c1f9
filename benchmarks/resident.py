"""Samples a process's resident memory and its descendants' until standard input ends: ``python -m benchmarks.resident PID``.

Prints two numbers of bytes: the greatest of the process, and of all its descendants together (shared pages counted in each).
"""

from __future__ import annotations

import os
import select
import sys

import psutil

_EVERY_S = 0.5  # walking a hundred processes more often takes a noticeable part of a core


def main() -> int:
    """Sample and print."""
    process = psutil.Process(int(sys.argv[1]))
    own = others = 0
    while not select.select([sys.stdin], [], [], _EVERY_S)[0]:
        own = max(own, process.memory_info().rss)
        held = 0
        for child in process.children(recursive=True):
            try:
                held += child.memory_info().rss if child.pid != os.getpid() else 0
            except psutil.Error:
                continue  # it ended meanwhile
        others = max(others, held)
    print(own, others)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
