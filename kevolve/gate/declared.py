"""Whether a spec or its reference says something else than at a revision: by its text, as an old module is never imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from kevolve.gate.revision import Revision
from kevolve.spec.spec import Spec


def spec_changed(spec: Spec, revision: Revision) -> bool:
    """Whether the test function, what it names in its module, or the reference differ; comments and layout apart.

    As in ``Spec.hash``, what the reference's *other* modules hold does not count.
    """
    file = spec.folder / Path(spec.nodeid.partition("::")[0]).name
    parts = {(file, f"test_{spec.name}"), (spec.reference.file, spec.reference.qualname.partition(".")[0])}
    return any(_differs(path, name, revision) for path, name in sorted(parts))


def _differs(path: Path, name: str, revision: Revision) -> bool:
    old = revision.text(revision.below(path))
    new = path.read_text(encoding="utf-8") if path.is_file() else None
    if old is None or new is None or old == new:
        return old != new and revision.below(path) != path  # a file of another repository, or none, is nothing that changed here
    return _said(old, name) != _said(new, name)


def _said(text: str, name: str) -> list[str]:
    """The statements of a module that ``name`` depends on, in order, as syntax; the whole module where it does not say ``name``."""
    try:
        body = ast.parse(text).body
    except SyntaxError:
        return [text]
    wanted, found = {name}, set[int]()
    while True:
        more = {number for number, statement in enumerate(body) if number not in found and wanted & set(_bound(statement))}
        if not more:
            break
        found |= more
        wanted |= {node.id for number in more for node in ast.walk(body[number]) if isinstance(node, ast.Name)}
    return [ast.dump(body[number]) for number in sorted(found or range(len(body)))]


def _bound(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at a module's top level gives a value."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((alias.asname or alias.name).partition(".")[0] for alias in statement.names)
    else:
        yield from (node.id for node in ast.walk(statement) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store))
