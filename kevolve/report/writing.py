"""A record as a file of the form that its suffix names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from kevolve.files import write_atomically
from kevolve.report import flashinfer, github, gitlab, markdown
from kevolve.report.record import Record, dumped


class UnknownForm(ValueError):
    """A suffix or a name that stands for no form of report; the message names those that do."""


def _html(record: Record) -> str:
    found: str = import_module("kevolve.report.html").render(record)  # here: it loads jinja2
    return found


BY_SUFFIX: Mapping[str, Callable[[Record], str]] = {".html": _html, ".json": dumped, ".md": markdown.render}
FORMS: Mapping[str, Callable[[Record], str]] = {
    "html": _html,
    "json": dumped,
    "markdown": markdown.render,
    "github-summary": github.summary,
    "gitlab-note": gitlab.note,
    "flashinfer-trace": lambda record: "".join(f"{line}\n" for line in flashinfer.lines(record)),
}


def form_of(path: Path) -> Callable[[Record], str]:
    """How a file of this name is rendered. Raises ``UnknownForm``."""
    if path.suffix.lower() not in BY_SUFFIX:
        raise UnknownForm(f"expected a file ending in .html, .json or .md, got {path.name!r}")
    return BY_SUFFIX[path.suffix.lower()]


def write_report(record: Record, path: Path, *, form: Callable[[Record], str] | None = None) -> None:
    """Write ``record`` to ``path`` at once or not at all, folders above it included. Raises ``UnknownForm`` and ``OSError``."""
    rendered = (form or form_of(path))(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, rendered)
