"""What all kernel functions have in common: parameters, pointers to rows, named subexpressions, loops and stores."""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kevolve.operators.lowering.cpp.text import STORED, TYPES, Printer
from kevolve.operators.lowering.cpp.view import View, Work, of_store
from kevolve.operators.lowering.expression import Buffer, Expression, visit
from kevolve.operators.lowering.index import Axis, Index, Read, Size, parts
from kevolve.operators.lowering.printing import ATOM, PLUS, UNARY, Definitions, Names, definitions, described, is_single, split
from kevolve.operators.lowering.program import Program, Store

WIDTH = 110
CONSTANTS = {
    "kGrain": ("elements of work below which a second thread does not pay", 32768, (4096, 32768, 262144)),
    "kLanes": ("neighbouring columns that are worked on together", 64, (16, 32, 64, 128, 256)),
    "kRun": ("neighbouring elements that a thread takes at a time", 4096, (1024, 4096, 16384)),
    "kChunk": ("elements of a partial sum", 16384, (4096, 16384, 65536)),
    "kHigh": ("rows of a tile whose sums stay in registers", 6, (2, 4, 6, 8, 12)),
    "kWide": ("vectors of 16 columns of such a tile", 2, (1, 2, 3, 4)),
}
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr const_cast continue decltype
    default delete do double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace
    new noexcept not not_eq nullptr operator or or_eq private protected public register reinterpret_cast return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename union unsigned using virtual
    void volatile wchar_t while xor xor_eq std ffi tvm omp main detail T
    system fork abort exit signal kill open read write connect send time clock index div remainder gamma y0 y1 j0 j1 yn jn
    sin cos tan exp log pow sqrt erf tanh floor ceil round trunc fabs abs fmod select
""".split()
_MARK = re.compile(r"^//@ (?P<name>\w+)(?:: (?P<needs>.*))?\n", re.MULTILINE)


@functools.cache
def helpers() -> dict[str, tuple[tuple[str, ...], str]]:
    """The helpers by name, in the order of their file: what each needs, and its text."""
    text = Path(__file__).with_name("helpers.cpp").read_text()
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    texts = {mark["name"]: (mark["needs"] or "", text[mark.end() : end].strip() + "\n") for mark, end in zip(marks, ends, strict=True)}
    return {name: ((*needs.split(), *(["INLINE"] if "INLINE inline" in body else [])), body) for name, (needs, body) in texts.items()}


class File:
    """What a file's functions share: names, template parameters of floating dtypes, helpers and constants that are used."""

    def __init__(self, programs: Sequence[Program]) -> None:
        functions = [name for _, text in helpers().values() for name in re.findall(r"\b(\w+)\(", text)]
        self.names = Names([*_KEYWORDS, *helpers(), *functions, *CONSTANTS, "kSums", "kMany", "kBlock"])
        self.entries: dict[str, str] = {}  # what the function of each entry is called in the file
        self.used: set[str] = set()
        self.types: dict[str, str] = {}
        groups = list(dict.fromkeys(buffer.like for program in programs for buffer in memory(program) if buffer.like is not None))
        for number, like in enumerate(groups):
            self.types[like] = "TUVW"[number] if number < 4 else f"T{number}"

    def use(self, name: str) -> str:
        """Ask for a helper, those that it needs with it; returns its name."""
        if name not in self.used:
            self.used.add(name)
            for needed in helpers().get(name, ((), ""))[0]:
                self.use(needed)
            text = helpers().get(name, ((), ""))[1]
            for constant in CONSTANTS:
                if constant in text:
                    self.used.add(constant)
        return name

    def type_of(self, buffer: Buffer) -> str:
        """The type of its elements."""
        if buffer.like is not None:
            return self.types[buffer.like]
        if buffer.dtype in ("float16", "bfloat16"):
            self.use(STORED[buffer.dtype])
        return STORED[buffer.dtype]


def memory(program: Program) -> list[Buffer]:
    """All buffers of a program."""
    arguments = [argument.buffer for argument in program.arguments if argument.buffer is not None]
    return list(dict.fromkeys([*arguments, *program.outputs, *program.workspaces]))


class Function:
    """One kernel's function while it is printed."""

    def __init__(self, file: File, view: View, program: Program) -> None:
        self.file, self.view, self.program = file, view, program
        self.names = file.names.inside()
        self.lines: list[str] = []
        self.depth = 1
        self.buffers: dict[int, tuple[Buffer, str]] = {}  # parameters, in the order of first use
        self.sizes: dict[str, str] = {}  # of the program's name: the parameter's
        self.scalars: dict[str, tuple[str, str]] = {}
        self.extents: dict[int, str] = {}
        self.inner: tuple[Axis, ...] = ()
        self.bases: dict[tuple[int, Index], str] = {}
        self.droppable: list[str] = []
        self.kept: dict[int, str] = {}
        self.printer = Printer(self._name, self.element, file.use)
        self.stored = {id(store.buffer) for each in view.all_sweeps for work in each.works for store in work.stores}

    # --- lines ---

    def line(self, text: str) -> None:
        """One statement, folded where it is long."""
        self.lines += folded("  " * self.depth + text)

    def pragma(self, text: str) -> None:
        """A directive, which begins its line."""
        self.lines.append(f"#pragma omp {text}")

    @contextlib.contextmanager
    def block(self, head: str, tail: str = "}") -> Iterator[None]:
        """What stands inside the brackets that ``head`` opens."""
        self.line(head + " {" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.line(tail)

    @contextlib.contextmanager
    def loops(self, axes: Sequence[Axis], *, simd: bool = False) -> Iterator[None]:
        """A loop over each axis, the last one vectorised."""
        with contextlib.ExitStack() as stack:
            for axis in axes:
                extent = self.extent(axis)
                if simd and axis is axes[-1]:
                    self.pragma("simd")
                stack.enter_context(self.block(self.head(axis, extent)))
            yield

    def head(self, axis: Axis, extent: str) -> str:
        """The head of a loop over an axis."""
        name = self.names.of(axis)
        return f"for (int64_t {name} = 0; {name} < {extent}; ++{name})"

    # --- names and parameters ---

    def _name(self, thing: Size | Axis | str) -> str:
        if isinstance(thing, Axis):
            return self.names.of(thing)
        if isinstance(thing, Size):
            if thing.name not in self.sizes:
                self.sizes[thing.name] = self.names.new(thing.name)
            return self.sizes[thing.name]
        if thing not in self.scalars:
            kind = next((argument.kind for argument in self.program.arguments if argument.name == thing), "float")
            ctype = {"int": "int64_t", "bool": "bool"}.get(kind, "float")
            self.scalars[thing] = (self.names.new(thing), ctype)
        return self.scalars[thing][0]

    def pointer(self, buffer: Buffer) -> str:
        """The parameter that points to a buffer."""
        if id(buffer) not in self.buffers:
            self.buffers[id(buffer)] = (buffer, self.names.new(buffer.name))
        return self.buffers[id(buffer)][1]

    def type_of(self, buffer: Buffer) -> str:
        """The type of a pointer's elements."""
        return ("" if id(buffer) in self.stored else "const ") + self.file.type_of(buffer)

    def element(self, buffer: Buffer, place: Index) -> str:
        """Memory at a place, from the beginning of the row where there is a pointer to that."""
        pointer = self.pointer(buffer)
        base, rest = split(place, self.inner)
        if (id(buffer), base) in self.bases:
            return f"{self.bases[id(buffer), base]}[{self.printer.index(rest)}]"
        return f"{pointer}[{self.printer.index(place)}]"

    def extent(self, axis: Axis) -> str:
        """The number of an axis's places: a name or a number."""
        if id(axis) not in self.extents:
            text = self.printer.index(axis.extent)
            if not re.fullmatch(r"\w+", text):
                name = self.names.new(f"{axis.name}s" if axis.name != "i" else "count")
                self.line(f"const int64_t {name} = {text};")
                text = name
            self.extents[id(axis)] = text
        return self.extents[id(axis)]

    def fixed_extents(self, axes: Iterable[Axis]) -> None:
        """Names for numbers of places that do not depend on where a loop is."""
        for axis in axes:
            if not axis.extent.axes and not any(not isinstance(atom, Size | Axis) and _reads(atom) for atom in axis.extent.atoms):
                self.extent(axis)

    # --- subexpressions ---

    def defined(self, roots: Sequence[Expression], loops: Sequence[Axis], also: Iterable[int] = ()) -> Definitions:
        """What is to be named of expressions inside loops, what has an identity in ``also`` at any rate."""
        forced = set(also) | {id(then) for root in roots for part in visit(root) for then in _branches(part)}
        forced |= {number for number, sweep in self.view.kept.items() if number not in self.printer.named}
        sizes = {atom for axis in loops for atom in axis.extent.atoms if isinstance(atom, Size) and atom.least == 0}

        def hoistable(value: Expression) -> bool:
            if value.op == "load":
                shape = {atom for size in value.value[0].shape for atom in size.atoms}
                return not sizes & shape
            return not trivial(value)

        return definitions(
            roots,
            loops,
            trivial=trivial,
            hoistable=hoistable,
            known=lambda value: id(value) in self.printer.named,
            forced=lambda value: id(value) in forced and not trivial(value),
        )

    def define(self, values: Iterable[Expression], names: Names | None = None, wanted: dict[int, str] | None = None) -> list[Expression]:
        """A constant for each; returns them, for ``forget``."""
        made = []
        for value in values:
            text = self.printer.text(value)
            name = (names or self.names).new((wanted or {}).get(id(value)) or described(value))
            keep = f"{self.kept[id(value)]} = " if id(value) in self.kept else ""
            self.line(f"const {TYPES[value.dtype]} {name} = {keep}{text};")
            self.printer.named[id(value)] = (name, ATOM)
            made.append(value)
            if not keep:
                self.droppable.append(name)
        return made

    def forget(self, values: Iterable[Expression]) -> None:
        """Names that end with their block."""
        for value in values:
            del self.printer.named[id(value)]

    def point(self, works: Iterable[Work], inner: tuple[Axis, ...]) -> None:
        """Pointers to the beginnings of rows: where places do not change with ``inner`` axes but with others."""
        self.inner = inner
        for buffer, place in touched(works):
            base, rest = split(place, inner)
            if base.axes and rest.terms and (id(buffer), base) not in self.bases:
                pointer = self.pointer(buffer)
                last = max(base.axes, key=lambda axis: [*self.view.grid, axis].index(axis))
                name = self.names.new(f"{buffer.name}_{last.name}")
                self.line(f"{self.type_of(buffer)}* {name} = {pointer} + {self.printer.index(base, PLUS)};")
                self.bases[id(buffer), base] = name
                self.droppable.append(name)

    # --- stores ---

    def store(self, store: Store) -> None:
        """``buffer[place] = value``."""
        target = self.element(store.buffer, store.place)
        text = self.written(store.buffer, target, self.value_for(store))
        if store.condition is not None:
            text = f"if ({self.printer.text(store.condition)}) {text}"
        self.line(text)

    def value_for(self, store: Store) -> str:
        """The value, as its buffer takes it."""
        return self.printer.converted(store.value, store.buffer.dtype if store.buffer.like is None else "float32")

    def written(self, buffer: Buffer, target: str, value: str) -> str:
        """The statement that stores a value."""
        if buffer.like is not None or buffer.dtype in ("float16", "bfloat16"):
            return f"{self.file.use('narrow')}({value}, {target});"
        return f"{target} = {value};"

    # --- the work, and the whole ---

    def work(self, *groups: Sequence[Axis]) -> str:
        """How many elements there are, as text."""
        fixed = [axis for axes in groups for axis in axes if not axis.extent.axes and not any(map(_reads, axis.extent.atoms))]
        texts = [self.extents.get(id(axis)) or self.printer.index(axis.extent, UNARY) for axis in fixed]
        return " * ".join(texts) or "1"

    def enough(self, of: str = "") -> str:
        """The clause that leaves tiny problems to one thread. ``of``: what it is a clause of, where ``simd`` stands beside it."""
        longest = max((sweep.axes for sweep in self.view.all_sweeps), key=len, default=())
        self.file.use("kGrain")
        return f"if ({of}{self.work(self.view.grid, longest)} > kGrain)"

    def parameters(self) -> list[tuple[str, str, object]]:
        """Declaration, kind and what stands for it."""
        pointers = [(f"{self.type_of(buffer)}* {name}", "buffer", buffer) for buffer, name in self.buffers.values()]
        scalars = [(f"{ctype} {name}", "scalar", known) for known, (name, ctype) in self.scalars.items()]
        sizes = [(f"int64_t {name}", "size", known) for known, name in self.sizes.items()]
        return [*pointers, *scalars, *sizes]

    def _drop_unused(self) -> None:
        """Pointers and names that turned out to be of no use."""
        for name in self.droppable:
            using = [line for line in self.lines if re.search(rf"\b{name}\b", line)]
            if len(using) == 1 and using[0].endswith(";"):
                self.lines.remove(using[0])

    def text(self, name: str) -> str:
        """The whole function."""
        self._drop_unused()
        types = [kind for like, kind in self.file.types.items() if any(buffer.like == like for buffer, _ in self.buffers.values())]
        template = [f"template <{', '.join(f'class {kind}' for kind in types)}>"] if types else []
        head = f"void {name}({', '.join(declared for declared, _, _ in self.parameters())}) {{"
        comment = [f"// {line}" for line in (self.view.kernel.lines or _lines(self.view))]
        return "\n".join([*comment, *template, *folded(head), *self.lines, "}"]) + "\n"


def _lines(view: View) -> list[str]:
    found = [line for step in view.kernel.steps for line in step.lines]
    return list(dict.fromkeys(found))


def _reads(atom: object) -> bool:
    if isinstance(atom, Read):
        return True
    return any(_reads(inner) for part in parts(atom) for inner in part.atoms)  # type: ignore[arg-type]


def trivial(value: Expression) -> bool:
    """What is written again wherever it is used: numbers, names, and casts of them."""
    if value.op == "cast":
        return trivial(value.arguments[0])
    if value.op in ("constant", "scalar", "result"):
        return not value.arguments
    if value.op == "neg":
        return trivial(value.arguments[0])
    return is_single(value)


def _branches(value: Expression) -> list[Expression]:
    """Loads in the branches of a choice, which are read before it, so that loops vectorise."""
    if value.op != "where" or not value.axes:
        return []
    return [
        part
        for branch in value.arguments[1:]
        for part in visit(branch)
        if part.op == "load" and not part.arguments and part.dtype not in FLOATING
    ]


FLOATING = ("float32", "float64", "float16", "bfloat16")


def touched(works: Iterable[Work]) -> list[tuple[Buffer, Index]]:
    """Memory and places, each once, in order."""
    found: dict[tuple[int, Index], tuple[Buffer, Index]] = {}
    for work in works:
        roots = [*([work.body] if work.body is not None else []), *(value for store in work.stores for value in of_store(store))]
        for root in roots:
            for part in visit(root):
                if part.op in ("load", "search"):
                    found.setdefault((id(part.value[0]), part.value[1]), part.value[:2])
        for store in work.stores:
            found.setdefault((id(store.buffer), store.place), (store.buffer, store.place))
    return list(found.values())


def folded(text: str, margin: int | None = None) -> list[str]:
    """A long line as several: broken where brackets are fewest, as far right as possible. ``margin``: of what continues."""
    if len(text) <= WIDTH or text.lstrip().startswith(("//", "#")):
        return [text]
    indent = len(text) - len(text.lstrip())
    margin = indent + 4 if margin is None else margin
    depth, best = 0, None
    quoted = False
    for at, mark in enumerate(text[:WIDTH]):
        quoted ^= mark == '"'
        depth += (mark in "([{") - (mark in ")]}")
        if mark == " " and not quoted and at > indent + 8 and _breaks(text, at) and (best is None or depth <= best[0]):
            best = (depth, at)
    if best is None:
        return [text]
    return [text[: best[1]], *folded(" " * margin + text[best[1] + 1 :], margin)]


def _breaks(text: str, at: int) -> bool:
    before = text[:at].split(" ")[-1]
    return before.endswith((",", "=")) or before in ("+", "-", "*", "/", "&&", "||", "?", ":", "&", "|")
