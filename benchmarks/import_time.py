"""What the plugin costs a pytest run that has nothing to do with kernels.

- import: the time of ``import pytest, pytest_benchmark.plugin`` with and without ``kevolve.plugin``, in fresh interpreters;
- an item: the time ``pytest --collect-only`` spends on a file of parametrised cases with and without the decorator.

``python benchmarks/import_time.py [--runs 15] [--items 300]``. Medians of alternating runs; milliseconds.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

PLAIN_IMPORT = "import pytest, _pytest.config, pytest_benchmark.plugin"
TIMED = "import time; begun = time.perf_counter(); {statement}; print(1e3 * (time.perf_counter() - begun))"

REFERENCE = "def double(x):\n    return x + x\n"
KERNELS = """\
import pytest
import kevolve
from kevolve import Tensor, sizes
from reference import double

@kevolve.kernel(double, vary=dict(rows=sizes(0, 64)))
@pytest.mark.parametrize("rows", range(1, {items}))
def test_double(rows):
    return (Tensor(rows),)
"""
PLAIN = """\
import pytest

@pytest.mark.parametrize("rows", range({items}))
def test_double(rows):
    return None
"""


def import_ms(statement: str) -> float:
    """Milliseconds that ``statement`` takes in a fresh interpreter."""
    done = subprocess.run([sys.executable, "-c", TIMED.format(statement=statement)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def collection_ms(folder: Path, name: str, items: int) -> float:
    """Milliseconds pytest says it took to collect ``name`` and nothing else; raises where it found another number of items."""
    command = [sys.executable, "-c", COLLECT, name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(r"collected=(\d+) ms=([\d.]+)", done.stdout)
    if found is None or int(found[1]) != items:
        raise RuntimeError(f"expected {items} items of {name}, got:\n{done.stdout}\n{done.stderr}")
    return float(found[2])


# Times the collection alone, between two hooks, so that neither interpreter start nor imports of pytest are in it.
COLLECT = """
import sys, time, pytest
class Clock:
    def pytest_collection(self):
        self.begun = time.perf_counter()
    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session):
        print(f"collected={len(session.items)} ms={1e3 * (time.perf_counter() - self.begun)}", flush=True)
raise SystemExit(pytest.main(["--collect-only", "-q", "-s", "-p", "no:cacheprovider", sys.argv[1]], plugins=[Clock()]))
"""


def alternating(first: Callable[[], float], second: Callable[[], float], runs: int) -> tuple[float, float]:
    """Medians of two figures taken in turns, after one of each that is thrown away."""
    first(), second()
    pairs = [(first(), second()) for _ in range(runs)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--items", type=int, default=300)
    given = parser.parse_args()
    begun = time.monotonic()
    plain, plugin = alternating(
        lambda: import_ms(PLAIN_IMPORT),
        lambda: import_ms(f"{PLAIN_IMPORT}, kevolve.plugin"),
        given.runs,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n")
        (folder / "reference.py").write_text(REFERENCE)
        (folder / "test_plain.py").write_text(PLAIN.format(items=given.items))
        (folder / "test_kernels.py").write_text(KERNELS.format(items=given.items))
        collected, decorated = alternating(
            lambda: collection_ms(folder, "test_plain.py", given.items),
            lambda: collection_ms(folder, "test_kernels.py", given.items),
            max(3, given.runs // 3),
        )
    figures = {
        "plain_import_ms": plain,
        "plugin_import_ms": plugin,
        "import_over_plain_ms": plugin - plain,
        "plain_collection_ms": collected,
        "kernel_collection_ms": decorated,
        "overhead_an_item_ms": (decorated - collected) / given.items,
    }
    rounded = {key: round(value, 3) for key, value in figures.items()}
    print(json.dumps({"runs": given.runs, "items": given.items, **rounded, "seconds": round(time.monotonic() - begun, 1)}, indent=2))


if __name__ == "__main__":
    main()
