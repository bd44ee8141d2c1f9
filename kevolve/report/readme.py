"""Put a record's table between the marks of a document: ``python -m kevolve.report.readme reports/cpu.json README.md``.

A document with several tables names each: ``--marks paper`` fills what stands between ``<!-- paper:begin -->`` and ``<!-- paper:end -->``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from kevolve.files import write_atomically
from kevolve.report import text
from kevolve.report.record import Record, RecordError, read
from kevolve.report.terminal import LAYOUTS, TIMES, markdown, mean_line

MARKS = "table"
BEGIN, END = (f"<!-- {MARKS}:{end} -->" for end in ("begin", "end"))


class MarksError(ValueError):
    """The document lacks one of the two marks, or they stand in the wrong order."""


def section(record: Record, *, times: bool = False) -> str:
    """What stands between the marks: where and how it was measured, the table, the means. ``times``: of all sides, in both forms."""
    environment = record.environment
    rows = record.results
    pairs = sorted({row.pairs for row in rows if row.pairs})
    measured = f", {pairs[0]} or more process pairs a case" if pairs else ""
    named = ("cores", "kevolve", "torch", "python")
    versions = ", ".join(f"{name} {environment.versions[name]}" for name in named if name in environment.versions)
    place = f"{environment.device} ({environment.arch}), {environment.date[:10]}; {versions}{measured}."
    draws = sum(row.draws for row in record.properties)
    checked = (
        f"Property items: {text.plural(len(record.properties), 'spec')}, {text.plural(draws, 'draw')} compared with the float64 oracle."
    )
    legend = "Microseconds a call, launched / replayed; torch.compile in its default mode, of static shapes." if times else ""
    parts = [place, legend, markdown(rows, TIMES if times else LAYOUTS[0]), f"{mean_line(rows).capitalize()}.", checked]
    return "\n\n".join(part for part in parts if part not in ("", "."))


def filled(document: str, record: Record, *, marks: str = MARKS, times: bool = False) -> str:
    """The document with the table of ``record`` between the marks of that name. Raises ``MarksError``."""
    first, last = (f"<!-- {marks}:{end} -->" for end in ("begin", "end"))
    begin, end = document.find(first), document.find(last)
    if not 0 <= begin < end:
        found = "neither" if begin < 0 and end < 0 else "not both in this order"
        raise MarksError(f"expected {first} and, further down, {last}; got {found}")
    return f"{document[: begin + len(first)]}\n{section(record, times=times)}\n{document[end:]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill the document. 0: filled; 1: the record or the document cannot be used, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m kevolve.report.readme", description=__doc__)
    parser.add_argument("record", type=Path, help="a run record, as --kevolve-record writes it")
    parser.add_argument("document", type=Path, help=f"a text with marks such as {BEGIN} and {END}")
    parser.add_argument("--marks", default=MARKS, metavar="NAME", help=f"the marks' name in the document (default: {MARKS})")
    parser.add_argument("--times", action="store_true", help="the times of all sides, launched and replayed, in place of the best alone")
    given = parser.parse_args(arguments)
    try:
        text_before = given.document.read_text(encoding="utf-8")
        write_atomically(given.document, filled(text_before, read(given.record), marks=given.marks, times=given.times))
    except (OSError, RecordError, MarksError) as error:
        sys.stderr.write(f"kevolve: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
