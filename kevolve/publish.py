"""What a session leaves behind: the reports asked for, the latest of a search, GitHub's summary. It knows no pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kevolve.report import github
from kevolve.report.record import Record, dumped
from kevolve.report.writing import write_report
from kevolve.settings import Settings

LATEST = ("latest.html", "latest.json")
_IGNORED = "# Made by kevolve: the latest report is of this checkout. Keep a record under a name of its own.\n"


def publish(record: Record, settings: Settings) -> Iterator[str]:
    """Write everything; a line for each file that could not be written."""
    if settings.record is not None:
        yield from _written(record, settings.record, dumped)
    for path in settings.reports:
        yield from _written(record, path)
    if settings.optimise != "off" and (record.results or record.properties):
        yield from _latest(record, settings.rootdir / "reports")
    if settings.summary is not None:
        yield from _summary(record, settings.summary)


def _written(record: Record, path: Path, form: Callable[[Record], str] | None = None) -> Iterator[str]:
    try:
        write_report(record, path, form=form)
    except OSError as error:
        yield f"kevolve: cannot write {path}: {error.strerror or error}"


def _latest(record: Record, folder: Path) -> Iterator[str]:
    """``reports/latest.*``, which git ignores: two branches would never agree on them. Committed records keep their names."""
    ignore = folder / ".gitignore"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("".join([_IGNORED, *(f"/{name}\n" for name in (*LATEST, ".gitignore"))]))
    except OSError as error:
        yield f"kevolve: cannot write {folder}: {error.strerror or error}"
        return
    for name in LATEST:
        yield from _written(record, folder / name)


def _summary(record: Record, path: Path) -> Iterator[str]:
    """Added to what the step's earlier commands wrote, within what GitHub still takes."""
    try:
        taken = path.stat().st_size if path.exists() else 0
        shown = github.summary(record, limit=github.SUMMARY_BYTES - taken - 1)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"\n{shown}" if taken and shown else shown)
    except OSError as error:
        yield f"kevolve: cannot write {path}: {error.strerror or error}"
