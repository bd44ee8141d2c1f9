"""One self-contained page from a record.

The templates escape every expression; a Content-Security-Policy allows this page's own style and script, by their hashes, and nothing
else: no other script, no frame, no request.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from kevolve.report import text
from kevolve.report.html import view
from kevolve.report.html.kernels import kernels, mapping
from kevolve.report.html.markup import name, percent, safe
from kevolve.report.html.pieces import Section, pack, pieces
from kevolve.report.html.roofline import distance, rooflines
from kevolve.report.html.speedups import panels, times
from kevolve.report.record import Record

if TYPE_CHECKING:
    from jinja2 import Environment

LIMIT = 2_000_000  # bytes of a page
_SPARE = 20_000  # what the sections' own frames take beyond the page without them
_OPEN = 8  # kernels that need attention and are shown unfolded: browsers lay out what is folded only when it is opened
_TEMPLATES = Path(__file__).parent / "templates"


def render(record: Record) -> str:
    """The page. Its pieces are left out, the least wanted first, where it would take more than ``LIMIT`` bytes."""
    templates = _templates()
    found = kernels(record)
    macros: Any = templates.get_template("pieces.html.j2").module
    sections = [
        Section(kernel=kernel, open=kernel.state.rank < 3 and order < _OPEN, pieces=pieces(kernel, macros, record.sources, record.prompts))
        for order, kernel in enumerate(found)
    ]
    page, frame = templates.get_template("page.html.j2"), templates.get_template("kernel.html.j2")
    shell = page.render(_values(record, found))
    frames = sum(len(frame.render(section=section).encode()) for section in sections)
    pack(sections, LIMIT - _SPARE - len(shell.encode()) - frames)
    drawn = Markup("").join(Markup(frame.render(section=section)) for section in sections)
    return shell.replace(_MARK, drawn, 1)


_MARK = "<!--sections-->"


def _values(record: Record, found: Any) -> dict[str, Any]:
    style, script = _file("style.css"), _file("script.js")
    counted = view.counts(found)
    rows = view.rows(found)
    return {
        "policy": f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'",
        "style": Markup(style),
        "script": Markup(script),
        "record": record,
        "environments": record.environments or (record.environment,),
        "kernels": found,
        "counts": counted,
        "headline": view.headline(counted),
        "gate": view.gate_line(record),
        "listed": view.listed(record),
        "means": view.means(found),
        "rows": rows,
        "attention": [row for row in rows if row.state.rank < 3],
        "targets": sorted({kernel.target for kernel in found}),
        "panels": panels(found),
        "distance": distance(found),
        "rooflines": rooflines(found),
        "methods": view.methods(record),
    }


def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """How a policy names the style or script that it allows."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        autoescape=True,
        finalize=safe,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "aligned": view.aligned,
        "date": view.date,
        "digits": text.digits,
        "interval": view.interval,
        "name": name,
        "percent": text.percent,
        "plain": view.plain,
        "plain_us": lambda us: view.aligned(us).strip(),
        "plural": text.plural,
        "ratio": text.ratio,
        "ratio_of": times,
        "replay_lines": view.replay_lines,
        "resources": view.resources,
        "share": percent,
        "shorten": text.shorten,
        "status": view.status,
        "without_replays": view.without_replays,
    }
    made.globals |= {"gate_words": view.gate_words, "mapping": mapping, "baseline": text.baseline, "best_time": text.best_time}
    return made
