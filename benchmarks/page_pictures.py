"""Pictures of a report as people see it: ``python -m benchmarks.page_pictures reports/sample.html``, beside it, light and dark."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.chromium import PROGRAM, Chromium

LOOKS = (("1400-light", 1400, 860, False), ("1400-dark", 1400, 860, True), ("390-light", 390, 844, False), ("390-dark", 390, 844, True))


def pictures(page: Path) -> list[Path]:
    """A PNG for each look, named after the page."""
    made = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Chromium(Path(folder))
        try:
            for name, width, height, dark in LOOKS:
                browser.open(page, width=width, height=height, dark=dark)
                made.append(page.with_name(f"{page.stem}-{name}.png"))
                browser.screenshot(made[-1])
        finally:
            browser.close()
    return made


if __name__ == "__main__":
    if PROGRAM is None:
        sys.exit("page_pictures: no Chromium: expected chromium, chromium-browser or google-chrome on the path; install one of them")
    for picture in pictures(Path(sys.argv[1])):
        print(f"{picture} {picture.stat().st_size:,} bytes")
