"""How large the report of many kernels is, and how long it takes to make and to open: ``python -m benchmarks.report_page``."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.chromium import PROGRAM, Chromium
from benchmarks.synthetic_record import synthetic
from kevolve.report.html import render

SIZES = ((12, 5), (100, 5), (300, 5))
ROUNDS = 5
OPENED = "(([entry]) => [entry.domInteractive, entry.loadEventEnd])(performance.getEntriesByType('navigation'))"


def main() -> None:
    """A line for each size: seconds to render (median), bytes, milliseconds until the page can be used and is loaded (median)."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Chromium(Path(folder)) if PROGRAM else None
        for kernels, cases in SIZES:
            record, seconds = synthetic(kernels, cases), []
            for _ in range(ROUNDS):
                began = time.perf_counter()
                page = render(record)
                seconds.append(time.perf_counter() - began)
            said = f"{kernels} kernels, {kernels * cases} rows: {statistics.median(seconds):.2f} s, {len(page.encode()):,} bytes"
            path = Path(folder) / "page.html"
            path.write_text(page, encoding="utf-8")
            print(said + (f", {opened(browser, path)}" if browser else ""))
        if browser:
            browser.close()


def opened(browser: Chromium, path: Path) -> str:
    """How long the page takes to open, in words; medians over rounds."""
    times = []
    for _ in range(ROUNDS):
        browser.open(path)
        times.append(browser.run(OPENED))
    usable, loaded = (statistics.median(column) for column in zip(*times, strict=True))
    return f"usable after {usable:.0f} ms, loaded after {loaded:.0f} ms"


if __name__ == "__main__":
    main()
