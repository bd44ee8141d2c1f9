"""``kevolve report``: read run records, merge them, write what people and other tools read."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from kevolve.report.merge import merge
from kevolve.report.record import Record, RecordError, read
from kevolve.report.terminal import summary
from kevolve.report.writing import FORMS, UnknownForm, form_of, write_report

READY, NOT_READY = 0, 1


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(
        prog="kevolve report",
        description="Merge run records (shards, machines, dates) and report on them. Without --out and --as: the table of results.",
        epilog="exit status: 0 written, whatever the results; 1 a record cannot be read or a file written; 2 a wrong command line",
    )
    top.add_argument(
        "records", nargs="+", type=Path, metavar="RECORD", help="as --kevolve-record and --kevolve-report PATH.json write them"
    )
    top.add_argument(
        "--out", action="append", default=[], type=Path, metavar="PATH", help="write there: .html, .json (merged) or .md; repeatable"
    )
    top.add_argument("--as", dest="form", choices=tuple(FORMS), help="the form, whatever the suffix; to standard output without --out")
    return top


def main(arguments: Sequence[str]) -> int:
    """Run the command. Returns the exit status."""
    top = parser()
    given = top.parse_args(arguments)
    forms = _forms(top, given)
    try:
        record = merge([read(path) for path in given.records])
        for path, form in forms.items():
            write_report(record, path, form=form)
            print(f"wrote {path}")
    except (RecordError, OSError) as error:
        sys.stderr.write(f"kevolve report: {error}\n")
        return NOT_READY
    if not forms:
        print(_shown(record, given.form), end="")
    return READY


def _forms(top: argparse.ArgumentParser, given: argparse.Namespace) -> dict[Path, Callable[[Record], str]]:
    """How each file is written; a name that says nothing ends the program before a record is read."""
    try:
        return {path: FORMS[given.form] if given.form else form_of(path) for path in given.out}
    except UnknownForm as error:
        top.error(f"--out: {error}")


def _shown(record: Record, form: str | None) -> str:
    return FORMS[form](record) if form else f"{summary(record, shutil.get_terminal_size().columns)}\n"
