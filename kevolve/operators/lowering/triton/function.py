"""A Triton function under construction: its parameters, its tile, its lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from kevolve.operators.lowering.expression import Buffer, Expression, called, children, visit
from kevolve.operators.lowering.index import Axis, Bounded, Index, Quotient, Read, Remainder, Size
from kevolve.operators.lowering.printing import PLUS, Names, is_single
from kevolve.operators.lowering.printing import described as described_anywhere
from kevolve.operators.lowering.triton.expression import AND, TYPES, Writer, is_float, number
from kevolve.operators.lowering.triton.tile import Group

WIDTH = 110
INDENT = "    "
WORDS = frozenset(
    "and as assert break class continue def del elif else except finally for from global if import in is lambda not or pass raise return "
    "try while with yield None True False tl torch triton range len max min float int bool abs sum".split()
)
DESCRIPTIONS = {"tanh": "squashed", "sign": "direction"}


@dataclass(eq=False, slots=True)
class Side:
    """A side of the tile: a group of axes, the name of its block's length, its place among the sides."""

    group: Group
    block: str
    position: int

    @property
    def axes(self) -> frozenset[Axis]:
        """The axes that vary along it."""
        return frozenset({self.group.flat, *self.group.runs.values()})


class Function:
    """The text of one ``@triton.jit`` function, and what it is called with.

    ``pointers``, ``numbers``, ``sizes``: what the wrapper hands over, by the parameter's name; ``blocks``: compile-time constants.
    """

    def __init__(self, name: str, expressions: Sequence[Expression], *, ndim: int) -> None:
        self.name, self.ndim = name, ndim
        self.pointers: dict[str, Buffer] = {}
        self.numbers: dict[str, str] = {}
        self.sizes: dict[str, Index] = {}
        self.blocks: list[str] = []
        self.lines: list[str] = []
        self.sides: list[Side] = []
        self.results: dict[int, str] = {}  # of steps
        self.lane_bounds: set[str] = set()  # where masks end along the last side, which lies along memory
        self.writer = Writer(variable=self._variable, scalar=self.number, special=self._special, prepare=self._hosted)
        self._names = Names(WORDS | set(helpers()) | _reserved(expressions))
        self._given: set[str] = set()
        self._masks: dict[frozenset[str], str] = {}
        self._depth = 1
        self._constants: dict[Index, Size] = {}
        self._shared: set[Index] = set()  # places that are used more than once
        self._places: dict[Index, str] = {}
        self._reused: set[int] = set()  # expressions that several passes use
        self._local = ""  # the variable of the loop that is opened next

    # --- names and parameters ---

    def new(self, wanted: str) -> str:
        """A name for a variable."""
        name = self._names.new(wanted)
        self._given.add(name)
        return name

    def local(self, wanted: str) -> str:
        """A name for a loop's variable: free again after the loop, taken inside it."""
        self._local = self._names.inside().new(wanted)
        return self._local

    def pointer(self, buffer: Buffer) -> str:
        """The parameter that points to a buffer."""
        name = f"{buffer.name}_ptr"
        self.pointers[name] = buffer
        return name

    def size(self, index: Index, hint: str = "count") -> str:
        """A whole number from the wrapper: a number, a size or what is worked out from sizes there."""
        if index.number is not None:
            return str(index.number)
        return self._variable(self._constant(index, hint))

    def block(self, name: str) -> str:
        """A compile-time constant."""
        if name not in self.blocks:
            self.blocks.append(name)
        return name

    def _variable(self, thing: Size | Axis) -> str:
        if isinstance(thing, Axis):
            return self._names.of(thing)
        known = {size.name: index for index, size in self._constants.items()}
        self.sizes[thing.name] = known.get(thing.name, Index.of(thing))
        return thing.name

    def number(self, name: str) -> str:
        """A number from the wrapper, under its name there."""
        self.numbers[name] = name
        return name

    def _constant(self, index: Index, hint: str) -> Size:
        """A size as it is; of more than one a new one, the same for the same."""
        atoms = [atom for monomial, _ in index.terms for atom in monomial]
        if len(index.terms) == len(atoms) == 1 and isinstance(atoms[0], Size) and next(iter(index.terms))[1] == 1:
            return atoms[0]
        if index not in self._constants:
            if len(index.terms) == 1 and all(isinstance(atom, Size) for atom in atoms) and next(iter(index.terms))[1] == 1:
                hint = "_".join(atom.name for atom in atoms if isinstance(atom, Size))
            name = self._names.new(hint)
            while name in self._given:
                name = self._names.new(hint)
            self._constants[index] = Size(name)
        return self._constants[index]

    def _hosted(self, index: Index) -> Index:
        """With products of sizes that stand alone worked out by the wrapper, where they cannot pass 32 bits unseen."""
        fixed = Index(frozenset(term for term in index.terms if _is_fixed(Index(frozenset({term})))))
        rest = index - fixed
        product = any(len(monomial) > 1 or not isinstance(monomial[0], Size) for monomial, _ in fixed.terms if monomial)
        if product and all(factor > 0 for _, factor in fixed.terms):
            fixed = Index.of(self._constant(fixed, "count"))
        terms = Index.of(0)
        for monomial, factor in rest.terms:
            term = Index.of(factor)
            sizes = Index(frozenset({(tuple(atom for atom in monomial if isinstance(atom, Size)), 1)}))
            if len(next(iter(sizes.terms))[0]) > 1:
                term, monomial = term * self._constant(sizes, "count"), tuple(atom for atom in monomial if not isinstance(atom, Size))
            for atom in monomial:
                term = term * self._rebuilt(atom)
            terms = terms + term
        return terms + fixed

    def _rebuilt(self, atom: Size | Axis | Quotient | Remainder | Bounded | Read) -> Index:
        if isinstance(atom, Quotient | Remainder):
            return Index.of(type(atom)(self._hosted(atom.above), self._hosted(atom.below)))
        if isinstance(atom, Bounded):
            return Index.of(Bounded(self._hosted(atom.first), self._hosted(atom.second), atom.largest))
        return Index.of(atom)

    # --- lines and scopes ---

    def line(self, text: str = "") -> None:
        """One more line."""
        self.lines.append(INDENT * self._depth + text)

    @contextmanager
    def inside(self, head: str) -> Iterator[None]:
        """The body of a statement; names given in it are free again after it."""
        self.line(head)
        names, masks, known, places = self._names, self._masks, self.writer.names, self._places
        self._names, self._masks, self.writer.names, self._places = names.inside(), dict(masks), dict(known), dict(places)
        if self._local:
            self._names.new(self._local)
            self._local = ""
        self._depth += 1
        sides = list(self.sides)
        try:
            yield
        finally:
            self._depth -= 1
            self.sides = sides
            self._names, self._masks, self.writer.names, self._places = names, masks, known, places

    # --- the tile ---

    def along(self, side: Side) -> str:
        """The numbers of a block's elements, along its side: ``tl.arange(0, COLS)[None, :]``."""
        self.block(side.block)
        around = ", ".join(":" if number == side.position else "None" for number in range(self.ndim))
        return f"tl.arange(0, {side.block})" + (f"[{around}]" if self.ndim > 1 else "")

    def place(self, side: Side, start: str, *, wide: bool = False) -> None:
        """Define a side's axes, from where its block starts."""
        text = f"{start} + {self.along(side)}" if start else self.along(side)
        self.sides.append(side)
        self.line(f"{self._variable(side.group.flat)} = {f'({text}).to(tl.int64)' if wide else text}")
        for axis, index in side.group.derived():
            self.line(f"{self._variable(axis)} = {self.writer.index(index)}")

    def scalar(self, side: Side, text: str) -> None:
        """Define axes of which a program has one place."""
        self.sides.append(side)
        self.line(f"{self._variable(side.group.flat)} = {text}")
        for axis, index in side.group.derived():
            self.line(f"{self._variable(axis)} = {self.writer.index(index)}")

    def extent(self, side: Side) -> str:
        """How long a side is in all."""
        name = side.group.flat.name
        return self.size(side.group.flat.extent, f"{name}s" if len(name) > 1 else f"{name}_count")

    def mask(self, axes: frozenset[Axis], needs: int = 0, *, only: Sequence[Side] | None = None) -> str:
        """Where all these axes are inside; empty where there is nothing to ask."""
        sides = sorted(
            (side for side in (self.sides if only is None else only) if side.axes & axes and side.block != "1"), key=lambda s: s.position
        )
        if not sides:
            return ""
        key = frozenset(self._variable(side.group.flat) for side in sides)
        self.lane_bounds |= {self.extent(side) for side in sides if side.position == self.ndim - 1}
        if key not in self._masks:
            tests = [f"{self._variable(side.group.flat)} < {self.extent(side)}" for side in sides]
            if len(tests) == 1:
                return f"({tests[0]})" if needs > 30 else tests[0]
            name = self.new("inside")
            self.line(f"{name} = {' & '.join(f'({test})' for test in tests)}")
            self._masks[key] = name
        return self._masks[key]

    def shape(self, sides: Sequence[Side]) -> str:
        """The shape of a tile over these sides."""
        blocks = ["1"] * self.ndim
        for side in sides:
            blocks[side.position] = self.block(side.block)
        return f"({', '.join(blocks)}{',' if self.ndim == 1 else ''})"

    # --- expressions ---

    def plan(self, roots: Sequence[Expression], loops: Sequence[Side]) -> list[list[Expression]]:
        """What to define before the loops and at the beginning of each one's body, arguments first."""

        def level(value: Expression) -> int:
            return max((number for number, side in enumerate(loops, 1) if side.axes & value.axes), default=0)

        order, uses, hoisted = self.order(roots), Counter[int](), set[int]()
        for value in order:
            for child in [] if self._known(value) else children(value):
                uses[id(child)] += 2 if value.op == "isnan" else 1
                if level(child) < level(value):
                    hoisted.add(id(child))
        for root in roots:
            uses[id(root)] += 1
            if level(root) < len(loops):
                hoisted.add(id(root))
        levels: list[list[Expression]] = [[] for _ in range(len(loops) + 1)]
        for value in order:
            if self._known(value) or value.op in ("constant", "scalar", "result") or is_single(value) or is_size(value):
                continue
            named = value.op in ("load", "search") or called(value) is not None or id(value) in self._reused
            if named or uses[id(value)] > 1 or (id(value) in hoisted and value.op != "place"):
                levels[level(value)].append(value)
        return levels

    def reuse(self, passes: Sequence[Sequence[Expression]]) -> None:
        """What several passes evaluate gets a variable in the first."""
        uses = Counter(id(value) for roots in passes for value in self.order(roots))
        self._reused = {key for key, count in uses.items() if count > 1}

    def _known(self, value: Expression) -> bool:
        return id(value) in self.writer.names

    def order(self, roots: Sequence[Expression]) -> list[Expression]:
        """Every part once, arguments first; nothing inside what has a variable."""
        seen: set[int] = set()
        order: list[Expression] = []

        def walk(value: Expression) -> None:
            if id(value) in seen:
                return
            seen.add(id(value))
            for child in [] if self._known(value) else children(value):
                walk(child)
            order.append(value)

        for root in roots:
            walk(root)
        return order

    def define(self, values: Sequence[Expression]) -> None:
        """Give each a variable."""
        for value in values:
            self.assign(value, value.value[0].name if value.op == "load" else described(value))

    def assign(self, value: Expression, wanted: str) -> str:
        """One statement, or several where one would be too long."""
        room = len(wanted) + 5
        text = self.load(value) if value.op == "load" else self.search(value) if value.op == "search" else self.text(value, room=room)
        self.writer.names[id(value)] = name = self.new(wanted)
        self.line(f"{name} = {text}")
        return name

    def text(self, value: Expression, needs: int = 0, *, room: int = 0) -> str:
        """An expression as text that fits the line beside ``room`` characters; parts that are too much of it get variables."""
        text = self.writer.text(value, needs)
        while len(text) + room + len(INDENT) * self._depth > WIDTH:
            part = self._part(value)
            if part is None:
                break
            self.assign(part, described(part))
            text = self.writer.text(value, needs)
        return text

    def _part(self, value: Expression) -> Expression | None:
        """The longest part that fits a line itself and is worth it."""
        found = [(len(self.writer.text(part)), part) for part in self.order([value]) if part is not value and not self._known(part)]
        fitting = [item for item in found if 16 < item[0] <= 72 and item[1].op not in ("constant", "scalar", "place")]
        return max(fitting, key=lambda item: item[0])[1] if fitting else None

    def load(self, value: Expression, *, narrow: bool = False) -> str:
        """A load, wide where memory is narrow."""
        buffer, place = value.value
        pointer = self.address(buffer, place)
        axes = place.axes
        condition = ""
        if value.arguments:
            axes |= value.arguments[0].axes
            condition = self.text(value.arguments[0], AND + 1)
        masks = [*filter(None, [self.mask(axes, AND + 1 if condition else 0), condition])]
        other = number(0.0 if is_float(buffer.dtype) else 0)
        text = f"tl.load({pointer}, mask={' & '.join(masks)}, other={other})" if masks else f"tl.load({pointer})"
        if not narrow and not _same_type(buffer, value.dtype):
            text += f".to({TYPES[value.dtype]})"
        if len(text) + len(buffer.name) + 6 + len(INDENT) * self._depth > WIDTH and place not in self._places and len(place.terms) > 1:
            self._shared.add(place)
            return self.load(value, narrow=narrow)
        return text

    def search(self, value: Expression) -> str:
        """A place in a sorted row."""
        buffer, begin, length, right = value.value
        (wanted,) = value.arguments
        self.writer.functions.add("sorted_place")
        inside = self.mask(begin.axes | length.axes | wanted.axes) or "True"
        return f"sorted_place({self.address(buffer, begin)}, {self.writer.index(length)}, {self.text(wanted)}, {inside}, {right})"

    def address(self, buffer: Buffer, place: Index) -> str:
        """A pointer to an element."""
        pointer = self.pointer(buffer)
        if place in self._shared and place not in self._places:
            text = self.writer.index(place)
            self._places[place] = self.new("place")
            self.line(f"{self._places[place]} = {text}")
        if place in self._places:
            return f"{pointer} + {self._places[place]}"
        return pointer if not place.terms else f"{pointer} + {self.writer.index(place, PLUS)}"

    def share(self, places: Sequence[Index]) -> None:
        """Places that deserve a variable where they are used more than once."""
        self._shared = {place for place, count in Counter(places).items() if count > 1 and len(place.terms) > 1}

    def store(self, buffer: Buffer, place: Index, value: str, condition: Expression | None = None, *, by: str = "tl.store") -> None:
        """One store, or an atomic operation ``by`` another name."""
        masks = []
        axes = place.axes | (condition.axes if condition is not None else frozenset())
        if inside := self.mask(axes, AND + 1 if condition is not None else 0):
            masks.append(inside)
        if condition is not None:
            masks.append(self.text(condition, AND + 1))
        mask = f", mask={' & '.join(masks)}" if masks else ""
        order = "" if by == "tl.store" else ', sem="relaxed"'
        self.line(f"{by}({self.address(buffer, place)}, {value}{mask}{order})")

    def _special(self, value: Expression) -> str:
        if value.op == "result":
            step, _ = value.value
            return self.results[id(step)]
        return self.load(value) if value.op == "load" else self.search(value)


def is_size(value: Expression) -> bool:
    """Whether it is a whole number from the wrapper, as it is or as a float."""
    return not value.axes and (value.op == "place" or (value.op == "cast" and is_size(value.arguments[0])))


def described(value: Expression) -> str:
    """A name for a subexpression that has none."""
    if called(value) is None and value.op == "div" and value.arguments[0].op == "result":
        return str(value.arguments[0].value[0].name).removesuffix("_sum") or "quotient"
    return described_anywhere(value) if called(value) else DESCRIPTIONS.get(value.op) or described_anywhere(value)


@cache
def helpers() -> dict[str, str]:
    """The helper functions that a file may hold, by name."""
    parts = Path(__file__).with_name("functions.py.jinja").read_text(encoding="utf-8").strip().split("\n\n\n")
    return {re.findall(r"def (\w+)", part)[0]: part for part in parts}


def _reserved(expressions: Sequence[Expression]) -> set[str]:
    """The names of all parameters that there may be."""
    found: set[str] = set()
    seen: set[int] = set()
    for part in [part for expression in expressions for part in visit(expression, seen)]:
        if part.op == "scalar":
            found.add(part.value)
        if part.op in ("load", "search"):
            found.add(f"{part.value[0].name}_ptr")
        for index in _indices(part.value):
            found |= _sizes(index)
    return found


def _sizes(index: Index) -> set[str]:
    names = {atom.name for atom in index.atoms if isinstance(atom, Size)}
    return names.union(*(_sizes(atom.extent) for atom in index.atoms if isinstance(atom, Axis)))


def _indices(value: object) -> list[Index]:
    if isinstance(value, Index):
        return [value]
    return [index for item in value for index in _indices(item)] if isinstance(value, tuple) else []


def _is_fixed(index: Index) -> bool:
    """Whether only sizes are in it."""
    return all(not isinstance(atom, Axis | Read) for atom in index.atoms)


def _same_type(buffer: Buffer, dtype: str) -> bool:
    """Whether memory holds what is computed with."""
    return buffer.like is None and buffer.dtype == dtype
