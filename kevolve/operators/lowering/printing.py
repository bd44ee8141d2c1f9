"""What the printers of all languages share: names, subexpressions worth a name and where to define them, indices as text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from kevolve.operators.lowering.expression import Expression, called, children, visit
from kevolve.operators.lowering.index import Atom, Axis, Bounded, Index, Monomial, Quotient, Read, Remainder, Size, is_at_least

# How tightly a text binds, the same in every language that is printed; a text in brackets or a call is an ATOM.
ATOM, UNARY, TIMES, PLUS = 100, 90, 80, 70


class Unprintable(Exception):
    """A program holds what a language cannot say; the message names it."""


# --- names ---


class Names:
    """Valid names, each given once. ``inside`` opens an inner scope, which knows what is taken outside and gives nothing back."""

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self._taken = set(reserved)
        self._of: dict[int, str] = {}
        self._kept: list[object] = []  # so that no id is met twice

    def inside(self) -> Names:
        """A scope of its own: what it gives away is free again beside it."""
        scope = Names(self._taken)
        scope._of, scope._kept = dict(self._of), self._kept
        return scope

    def new(self, wanted: str) -> str:
        """The wanted name, made valid and unique: ``row``, ``row_2``."""
        stem = re.sub(r"\W+", "_", wanted, flags=re.ASCII).strip("_") or "value"
        stem = f"v{stem}" if stem[0].isdigit() else stem
        name, number = stem, 2
        while name in self._taken:
            name, number = f"{stem}_{number}", number + 1
        self._taken.add(name)
        return name

    def of(self, thing: object, wanted: str | None = None) -> str:
        """The name of a thing (an axis, a buffer, a step, an expression), new the first time from ``wanted`` or its own ``name``."""
        if id(thing) not in self._of:
            self._of[id(thing)] = self.new(wanted if wanted is not None else str(getattr(thing, "name", "value")))
            self._kept.append(thing)
        return self._of[id(thing)]

    def knows(self, thing: object) -> bool:
        """Whether it has a name."""
        return id(thing) in self._of


_RESULTS = {
    "add": "total",
    "sub": "difference",
    "mul": "product",
    "div": "quotient",
    "floordiv": "quotient",
    "mod": "rest",
    "neg": "negative",
    "abs": "size",
    "maximum": "larger",
    "minimum": "smaller",
    "pow": "power",
    "exp": "exponential",
    "exp2": "exponential",
    "log": "logarithm",
    "log1p": "logarithm",
    "sqrt": "root",
    "rsqrt": "scale",
    "reciprocal": "inverse",
    "where": "chosen",
    "search": "found",
    "place": "index",
    "sigmoid": "gate",
    "and": "both",
    "or": "either",
    "not": "otherwise",
}


def described(value: Expression) -> str:
    """A name for a subexpression: the reference's, else what is loaded, else what is done."""
    name = called(value)
    if name is not None:
        return name
    if value.op == "load":
        return f"{value.value[0].name}_value" if value.axes else f"{value.value[0].name}_scalar"
    if value.op == "result":
        return f"{value.value[0].name}_value"
    if value.op == "cast":
        return described(value.arguments[0])
    if value.dtype == "bool" and value.op in ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf"):
        return "condition"
    return _RESULTS.get(value.op, value.op)


# --- subexpressions worth a name ---

TRIVIAL = frozenset({"constant", "scalar"})


@dataclass(slots=True)
class Definitions:
    """Subexpressions to define before use: ``outside`` of all loops, then for each loop what is defined at the beginning of its body."""

    outside: list[Expression] = field(default_factory=list)
    within: list[list[Expression]] = field(default_factory=list)

    def __iter__(self) -> Iterator[Expression]:
        return iter([*self.outside, *(value for level in self.within for value in level)])


def definitions(
    roots: Sequence[Expression],
    loops: Sequence[Axis],
    *,
    trivial: Callable[[Expression], bool] = lambda value: value.op in TRIVIAL,
    hoistable: Callable[[Expression], bool] = lambda value: value.op not in TRIVIAL,
    known: Callable[[Expression], bool] = lambda value: False,
    forced: Callable[[Expression], bool] = lambda value: False,
) -> Definitions:
    """What to name of ``roots``, which are evaluated in the innermost of ``loops`` (in order, the outermost first).

    Named are: what is used more than once and is not ``trivial`` (which is printed again wherever it stands); what does not change in
    some inner loop, is used by something that does and is ``hoistable``; what is ``forced``. Arguments come before what uses them.
    ``known`` expressions have names already: nothing inside them is looked at. A single atom as a place is always trivial.
    """
    parents: Counter[int] = Counter()
    levels: dict[int, int] = {}
    order = _visited(roots, known)
    used_deeper: set[int] = set()
    for value in order:
        levels[id(value)] = level(value, loops)
    for value in order:
        if known(value):
            continue
        for child in children(value):
            parents[id(child)] += 1
            if levels[id(child)] < levels[id(value)]:
                used_deeper.add(id(child))
    for root in roots:
        parents[id(root)] += 1
        if levels[id(root)] < len(loops):
            used_deeper.add(id(root))
    found = Definitions(within=[[] for _ in loops])
    for value in order:
        if known(value) or trivial(value) or is_single(value):
            continue
        if parents[id(value)] > 1 or forced(value) or called(value) is not None or (id(value) in used_deeper and hoistable(value)):
            depth = levels[id(value)]
            (found.within[depth - 1] if depth else found.outside).append(value)
    return found


def level(value: Expression, loops: Sequence[Axis]) -> int:
    """Inside how many of the loops it must be evaluated."""
    return max((number for number, axis in enumerate(loops, 1) if axis in value.axes), default=0)


def is_single(value: Expression) -> bool:
    """Whether it is a place that is a name or a number as it stands."""
    if value.op != "place":
        return False
    terms = value.value.terms
    return len(terms) < 2 and all(factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Size | Axis) for monomial, factor in terms)


def _visited(roots: Sequence[Expression], known: Callable[[Expression], bool]) -> list[Expression]:
    """Every part once, arguments first; nothing inside known ones."""
    order: list[Expression] = []
    seen: set[int] = set()

    def walk(value: Expression) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if not known(value):
            for child in children(value):
                walk(child)
        order.append(value)

    for root in roots:
        walk(root)
    return order


def loads(roots: Iterable[Expression]) -> list[Expression]:
    """The loads among the parts of expressions, each once."""
    seen: set[int] = set()
    return [part for root in roots for part in visit(root, seen) if part.op == "load"]


# --- indices as text ---


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexStyle:
    """How a language writes whole-number arithmetic.

    ``name``: of a size or an axis. ``read``: an expression used as an index, as text that binds like an ATOM. ``divide``, ``remainder``:
    operators for operands that are not negative; ``floor_divide``, ``floor_remainder``: functions for the others, None where the operators
    round down anyway. ``smaller``, ``larger``: functions.
    """

    name: Callable[[Size | Axis], str]
    read: Callable[[Expression], str]
    divide: str = "//"
    remainder: str = "%"
    floor_divide: str | None = None
    floor_remainder: str | None = None
    smaller: str = "min"
    larger: str = "max"


def index_text(index: Index, style: IndexStyle, needs: int = 0) -> str:
    """An index as text, in brackets where it binds less tightly than ``needs``: ``row * cols + col``."""
    text, binds = _polynomial(index, style)
    return f"({text})" if binds < needs else text


def _polynomial(index: Index, style: IndexStyle) -> tuple[str, int]:
    if not index.terms:
        return "0", ATOM
    ordered = sorted(index.terms, key=_term_order)
    parts = [_term(monomial, abs(factor), style) for monomial, factor in ordered]
    if len(parts) == 1:
        text, binds = parts[0]
        return (f"-{_wrapped(text, binds, UNARY)}", UNARY) if ordered[0][1] < 0 else (text, binds)
    signs = [factor < 0 for _, factor in ordered]
    texts = [_wrapped(text, binds, TIMES if sign else PLUS) for (text, binds), sign in zip(parts, signs, strict=True)]
    first = f"-{texts[0]}" if signs[0] else texts[0]
    return first + "".join(f" {'-' if sign else '+'} {text}" for sign, text in zip(signs[1:], texts[1:], strict=True)), PLUS


def _term_order(term: tuple[Monomial, int]) -> tuple[bool, bool, int, str]:
    """Positive before negative, numbers last, long products before short ones."""
    monomial, factor = term
    return factor < 0, not monomial, -len(monomial), _spelt(monomial)


def _spelt(monomial: Monomial) -> str:
    return " ".join(getattr(atom, "name", None) or repr(atom) for atom in monomial)


def _term(monomial: Monomial, factor: int, style: IndexStyle) -> tuple[str, int]:
    """A product: loop variables and quotients first, sizes after them, the number in front."""
    atoms = sorted(monomial, key=lambda atom: isinstance(atom, Size))
    if not atoms:
        return str(factor), ATOM
    first, *others = [_atom(atom, style) for atom in atoms]
    if factor == 1 and not others:
        return first
    # a * (b / c) is not a * b / c
    texts = [first[0] if factor == 1 and first[1] >= TIMES else _wrapped(*first, UNARY), *(_wrapped(*other, UNARY) for other in others)]
    return " * ".join([*([str(factor)] if factor != 1 else []), *texts]), TIMES


def _atom(atom: Atom, style: IndexStyle) -> tuple[str, int]:
    if isinstance(atom, Size | Axis):
        return style.name(atom), ATOM
    if isinstance(atom, Read):
        return style.read(atom.value), ATOM
    if isinstance(atom, Bounded):
        function = style.larger if atom.largest else style.smaller
        return f"{function}({index_text(atom.first, style)}, {index_text(atom.second, style)})", ATOM
    return _divided(atom, style)


def _divided(atom: Quotient | Remainder, style: IndexStyle) -> tuple[str, int]:
    whole = isinstance(atom, Quotient)
    function = style.floor_divide if whole else style.floor_remainder
    if function is None or is_at_least(atom.above, Index.of(0)):
        operator = style.divide if whole else style.remainder
        return f"{index_text(atom.above, style, TIMES)} {operator} {index_text(atom.below, style, UNARY)}", TIMES
    return f"{function}({index_text(atom.above, style)}, {index_text(atom.below, style)})", ATOM


def _wrapped(text: str, binds: int, needs: int) -> str:
    return f"({text})" if binds < needs else text


def split(index: Index, axes: Iterable[Axis]) -> tuple[Index, Index]:
    """The part that does not change with ``axes``, and the rest: ``row * cols`` and ``col``."""
    changing = frozenset(axes)
    fixed = {monomial: factor for monomial, factor in index.terms if not changing & Index(frozenset({(monomial, factor)})).axes}
    base = Index(frozenset(fixed.items()))
    return base, index - base
