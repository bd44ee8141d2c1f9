"""Checks on the text of kernels that are Python files: parse, policy and normalise, shared by the languages hosted in Python.

The policy reads the syntax tree only. It is a cheap filter that refuses the usual ways to cheat or to do harm before a process is
spent on them, and tells the author why. It is not isolation: what a kernel really does is decided by the worker's sandbox and by
the trace of the operators it dispatches.
"""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_PARSING = threading.Lock()
_NESTED = (ValueError, RecursionError, MemoryError)


def words(text: str) -> frozenset[str]:
    """The names in ``text``, separated by white space."""
    return frozenset(text.split())


FORBIDDEN_BUILTINS = words("eval exec compile open getattr setattr delattr globals locals vars breakpoint help exit quit memoryview")
ALLOWED_DUNDERS = frozenset({"__init__", "__all__"})
STATEFUL = ("self", "ctx")  # the objects whose attributes a kernel may set
SHOWN_PROBLEMS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the Python files of one language may use.

    ``imports``: modules. ``name``: whether a dotted name below an imported module (``"torch.empty"``) may be used.
    ``attributes``: what host code may read of any other object. ``device``: decorators that make a function device code, whose
    attributes are the compiler's business. ``decorators``: all decorators. ``constants``: what may be called at import.
    ``matmul``: whether host code may use ``@``.
    """

    imports: frozenset[str]
    name: Callable[[str], bool]
    attributes: frozenset[str]
    device: frozenset[str]
    decorators: frozenset[str]
    constants: frozenset[str]
    matmul: bool = False


def _parsed(source: str) -> ast.Module:
    """One at a time: Python 3.11 counts how deep a text nests in a place that threads share, and fails where two do."""
    with _PARSING:
        return ast.parse(source)


def parse(source: str, entry: str, *, device: frozenset[str] = frozenset()) -> str | None:
    """Say what is wrong with the syntax, or that no plain function ``entry`` stands at the top level; None when well."""
    try:
        tree = _parsed(source)
        ast.unparse(tree)  # what is nested too deeply for this is nested too deeply for every later step
    except SyntaxError as error:
        return f"line {error.lineno}, column {error.offset}: {error.msg}: {(error.text or '').strip()!r}"
    except _NESTED as error:
        return f"cannot be parsed: {error or 'nested too deeply'}"
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    if entry not in functions:
        found = ", ".join(functions) or "no function"
        return f"no entry function: expected `def {entry}(…)` at the top level, found {found}"
    if _decorators(functions[entry], _bindings(tree)) & device:
        line = functions[entry].lineno
        return f"line {line}: {entry} is device code; expected a Python function that allocates the outputs and launches it"
    return None


def normalise(source: str) -> str:
    """The text without comments, docstrings and layout: equal texts are duplicates. One that does not parse is as it is."""
    try:
        tree = _parsed(source)
    except (SyntaxError, *_NESTED):
        return source
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(ast.fix_missing_locations(tree))


def policy(source: str, rules: Rules) -> str | None:
    """Say what the text may not do, a line each, the first five; None when nothing is. The source must parse."""
    found = sorted(set(_Check(_parsed(source), rules).problems()))
    shown = [f"line {line}: {problem}" for line, problem in found[:SHOWN_PROBLEMS]]
    if len(found) > SHOWN_PROBLEMS:
        shown.append(f"and {len(found) - SHOWN_PROBLEMS} more")
    return "\n".join(shown) or None


def _bindings(tree: ast.Module) -> dict[str, str]:
    """The dotted name behind each name that an import binds, anywhere in the file."""
    bound: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound[alias.asname or alias.name.partition(".")[0]] = alias.name if alias.asname else alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return bound


def _dotted(node: ast.expr, bound: dict[str, str]) -> str | None:
    """``torch.nn.functional`` for what begins with an imported name, else None."""
    if isinstance(node, ast.Name):
        return bound.get(node.id)
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value, bound)
        return None if base is None else f"{base}.{node.attr}"
    return None


def _decorators(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, bound: dict[str, str]) -> frozenset[str]:
    """The dotted names of a definition's decorators, called or not."""
    called = [node.func if isinstance(node, ast.Call) else node for node in function.decorator_list]
    return frozenset(_dotted(node, bound) or ast.unparse(node) for node in called)


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, *_COMPREHENSIONS)  # what has variables of its own


def _variables(function: ast.FunctionDef) -> frozenset[str]:
    """The names that a function binds itself: its parameters and what it assigns, not what functions inside it do."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
    bound, waiting = {each.arg for each in named}, list[ast.AST](function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        # comprehensions have variables of their own
        scopes = (
            ast.FunctionDef
            | ast.AsyncFunctionDef
            | ast.Lambda
            | ast.ClassDef
            | ast.ListComp
            | ast.SetComp
            | ast.DictComp
            | ast.GeneratorExp
        )
        waiting += [] if isinstance(node, scopes) else ast.iter_child_nodes(node)
    return frozenset(bound)


class _Check:
    """One file under one set of rules."""

    def __init__(self, tree: ast.Module, rules: Rules) -> None:
        self.tree = tree
        self.rules = rules
        self.bound = _bindings(tree)
        self.parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        self.device = frozenset(inner for node in ast.walk(tree) if self._is_device(node) for inner in ast.walk(node))
        assigned = [node for node in tree.body if isinstance(node, ast.Assign | ast.AnnAssign)]
        self.globals = frozenset(name.id for node in assigned for name in ast.walk(node) if isinstance(name, ast.Name))

    def problems(self) -> Iterator[tuple[int, str]]:
        """Line numbers and what is not allowed there."""
        for node in self.tree.body:
            yield from ((node.lineno, problem) for problem in self._top_level(node))
        for inner in ast.walk(self.tree):
            line = getattr(inner, "lineno", 1)
            yield from ((line, problem) for problem in self._node(inner))

    def _node(self, node: ast.AST) -> Iterator[str]:
        match node:
            case ast.Import():
                yield from self._imports([alias.name for alias in node.names], relative=False)
            case ast.ImportFrom():
                yield from self._imports([node.module or "."], relative=node.level > 0)
                yield from (f"`from {node.module} import *` hides what is used" for alias in node.names if alias.name == "*")
            case ast.Attribute():
                yield from self._attribute(node)
            case ast.Name():
                yield from self._name(node)
            case ast.Global():
                yield f"`global {', '.join(node.names)}` keeps state between calls"
            case ast.Subscript(ctx=ast.Store() | ast.Del(), value=ast.Name(id=name)) if name in self.globals:
                yield f"{name}[…] keeps state between calls"
            case ast.BinOp(op=ast.MatMult()) | ast.AugAssign(op=ast.MatMult()) if not (self.rules.matmul or node in self.device):
                yield "`@` does the kernel's work by the library"
            case ast.FunctionDef() | ast.ClassDef():
                yield from (f"decorator {name}" for name in _decorators(node, self.bound) - self.rules.decorators)
                yield from self._dunder(node.name)
            case ast.AsyncFunctionDef():
                yield f"async function {node.name}"

    def _imports(self, modules: Sequence[str], *, relative: bool) -> Iterator[str]:
        for module in modules:
            if relative or module not in self.rules.imports:
                allowed = ", ".join(sorted(self.rules.imports))
                yield f"import of {module}; a kernel may import {allowed}"

    def _attribute(self, node: ast.Attribute) -> Iterator[str]:
        yield from self._dunder(node.attr)
        full = _dotted(node, self.bound)
        stored = not isinstance(node.ctx, ast.Load)
        if full is not None:
            if stored:
                yield f"assigns to {full}, which belongs to an imported module"
            elif not isinstance(self.parents[node], ast.Attribute) and not self.rules.name(full):
                yield f"{full} is not among what a kernel may use"
        elif stored:
            if not (isinstance(node.value, ast.Name) and node.value.id in STATEFUL):
                yield f"assigns to the attribute .{node.attr}"
        elif node not in self.device and node.attr not in self.rules.attributes and not self._is_limit(node):
            yield f".{node.attr} is not among what host code may use of a tensor (allocation, views, metadata, contiguous)"

    def _is_limit(self, node: ast.Attribute) -> bool:
        """Whether it is ``torch.finfo(…).max`` and the like."""
        return isinstance(node.value, ast.Call) and _dotted(node.value.func, self.bound) in ("torch.finfo", "torch.iinfo")

    def _name(self, node: ast.Name) -> Iterator[str]:
        yield from self._dunder(node.id)
        if node.id in FORBIDDEN_BUILTINS and isinstance(node.ctx, ast.Load) and not self._is_local(node):
            yield f"{node.id}: a kernel needs none of it"
        full = self.bound.get(node.id)
        if full is None or isinstance(self.parents[node], ast.Attribute):
            return
        if not isinstance(node.ctx, ast.Load):
            yield f"assigns to the imported name {node.id}"
        elif full in self.rules.imports or not self.rules.name(full):
            yield f"{full} is not among what a kernel may use as a value"

    def _is_local(self, node: ast.Name) -> bool:
        """Whether a function's own variable has a builtin's name: Python then looks no further, and Triton only where it is called."""
        parent = self.parents[node]
        if node in self.device and isinstance(parent, ast.Call) and parent.func is node:
            return False
        while not isinstance(parent, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef | ast.Module):
            parent = self.parents[parent]
        return isinstance(parent, ast.FunctionDef) and node.id in _variables(parent)

    def _dunder(self, name: str) -> Iterator[str]:
        if name.startswith("__") and name.endswith("__") and name not in ALLOWED_DUNDERS:
            yield f"{name}: a kernel needs no Python internals"

    def _top_level(self, node: ast.stmt) -> Iterator[str]:
        match node:
            case ast.Import() | ast.ImportFrom() | ast.FunctionDef() | ast.AsyncFunctionDef():
                return
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                return
            case ast.ClassDef():
                for inner in node.body:
                    yield from self._top_level(inner)
            case ast.Assign() | ast.AnnAssign():
                for call in (inner for inner in ast.walk(node) if isinstance(inner, ast.Call)):
                    name = _dotted(call.func, self.bound) or ast.unparse(call.func)
                    if name not in self.rules.constants:
                        yield f"calls {name} at import; only constants, functions and classes may stand there"
            case _:
                yield f"`{ast.unparse(node).splitlines()[0]}` runs at import; only constants, functions and classes may stand there"

    def _is_device(self, node: ast.AST) -> bool:
        return isinstance(node, ast.FunctionDef) and bool(_decorators(node, self.bound) & self.rules.device)
