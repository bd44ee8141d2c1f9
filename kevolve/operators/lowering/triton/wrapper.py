"""The function that a Triton file is called by: it looks at the inputs, makes the outputs, launches the kernels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from kevolve.operators.lowering.expression import Buffer
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.printing import PLUS, UNARY, IndexStyle, Names, Unprintable, index_text
from kevolve.operators.lowering.program import Program
from kevolve.operators.lowering.triton.call import call_lines
from kevolve.operators.lowering.triton.function import WORDS
from kevolve.operators.lowering.triton.host import host_number
from kevolve.operators.lowering.triton.kernels import Launch

WIDTH = 110
INDENT = "    "
BLOCKS = {
    "ROWS": "row_block",
    "MIDDLE": "middle_block",
    "INNER": "inner_block",
    "STEPS": "step_block",
    "COLS": "col_block",
    "BLOCK": "block",
}


def _name(name: str) -> str:
    return name.replace(".", "_")


class Wrapper:
    """Writes the function for a program. ``functions``: the helpers that it uses."""

    def __init__(self, program: Program, work: Sequence[list[Launch]]) -> None:
        self.program = program
        self.work = work
        self.functions: set[str] = set()
        self.lines: list[str] = []
        taken = {size.name for size, _ in program.sizes} | {name for name, _ in program.scalars}
        taken |= {_name(argument.name) for argument in program.arguments}
        taken |= {buffer.name for buffer in (*program.outputs, *program.workspaces)} | set(BLOCKS.values())
        self._names = Names(WORDS | taken)
        self._constants: dict[Index, str] = {}
        self._style = IndexStyle(name=_of_size, read=_no_read)

    def text(self) -> str:
        """The function."""
        constants = self._products()
        self._body()
        body = "\n".join([*constants, *self.lines])
        head = [*self._sizes(body), *constants]
        lines = [*head, *self._tests(), *self._checks(), *self._contiguous(), *self._scalars(body)]
        arguments = ", ".join(_name(argument.name) for argument in self.program.arguments)
        return "\n".join([f"def {self.program.entry}({arguments}):", *(INDENT + line if line else "" for line in [*lines, *self.lines])])

    def number(self, index: Index, needs: int = 0) -> str:
        """A whole number from sizes."""
        return self._constants.get(index) or index_text(index, self._style, needs)

    def _shape(self, shape: Sequence[Index]) -> str:
        return f"({', '.join(map(self.number, shape))}{',' if len(shape) == 1 else ''})"

    # --- inputs ---

    @property
    def _inputs(self) -> list[Buffer]:
        return [argument.buffer for argument in self.program.arguments if argument.buffer is not None]

    def _tests(self) -> list[str]:
        """Refuse other dtypes and shapes."""
        checked = {str(name.group(1)) for check in self.program.checks if (name := _measured(check))}
        rows = []
        for buffer in self._inputs:
            if buffer.name in checked or buffer.like != buffer.name:
                rows.append(f'("{buffer.name}", {buffer.name}, {self._dtype(buffer)}, {self._shape(buffer.shape)})')
        if not rows:
            return []
        flat = f"for name, tensor, dtype, shape in ({', '.join(rows)}{',' if len(rows) == 1 else ''}):"
        lines = [flat] if len(flat) < WIDTH else ["for name, tensor, dtype, shape in (", *(f"{INDENT}{row}," for row in rows), "):"]
        return [
            *lines,
            f"{INDENT}if tensor.dtype != dtype or tensor.shape != shape:",
            f'{INDENT * 2}raise ValueError(f"{{name}}: expected {{dtype}} {{shape}}, got {{tensor.dtype}} {{tuple(tensor.shape)}}")',
        ]

    def _dtype(self, buffer: Buffer) -> str:
        return f"{_name(buffer.like)}.dtype" if buffer.like is not None else f"torch.{buffer.dtype}"

    def _sizes(self, body: str) -> list[str]:
        """Define the sizes that are used."""
        checked = " ".join([*self._tests(), *self._checks()])
        wanted, needed = set[str](), f"{body} {checked} {' '.join(self._scalars(body))}"
        for size, source in reversed(self.program.sizes):
            if re.search(rf"\b{re.escape(size.name)}\b", needed):
                wanted.add(size.name)
                needed += f" {self.number(source)}" if isinstance(source, Index) else ""
        shapes: dict[str, dict[int, str]] = {}
        lines: list[str] = []
        for size, source in self.program.sizes:
            if size.name not in wanted:
                continue
            if isinstance(source, tuple):
                if source[0] not in shapes:
                    lines.append(f"<{source[0]}>")
                shapes.setdefault(source[0], {})[source[1]] = size.name
            elif isinstance(source, Index):
                lines.append(f"{size.name} = {self.number(source)}")
            elif _name(source) != size.name:
                lines.append(f"{size.name} = {_name(source)}")
        ranks = {buffer.name: len(buffer.shape) for buffer in self._inputs}
        return [_unpacked(line[1:-1], shapes[line[1:-1]], ranks[line[1:-1]]) if line.startswith("<") else line for line in lines]

    def _checks(self) -> list[str]:
        lines = []
        for one, other, text in self.program.checks:
            if _measured((one, other, text)):
                continue
            said = text.replace("\\", "\\\\").replace('"', '\\"').replace("{", "{{").replace("}", "}}")
            lines += [
                f"if {self.number(one)} != {self.number(other)}:",
                f'{INDENT}raise ValueError(f"{said}: expected {{{self.number(other)}}}, got {{{self.number(one)}}}")',
            ]
        return lines

    def _contiguous(self) -> list[str]:
        mutated = [buffer.name for buffer in self.program.mutated]
        names = [buffer.name for buffer in self._inputs if buffer.name not in mutated and self._is_used(buffer)]
        self.functions |= {"vector_aligned"} if names else set()
        made = [(name, f"{name}.contiguous()") for name in mutated] + [(name, f"vector_aligned({name})") for name in names]
        lines = [f"given_{name} = {name}" for name in mutated]
        while made:
            part = made[:4]
            while sum(len(name) + len(text) + 4 for name, text in part) + len(INDENT) > WIDTH and len(part) > 1:
                part = part[:-1]
            made = made[len(part) :]
            lines.append(f"{', '.join(name for name, _ in part)} = {', '.join(text for _, text in part)}")
        return lines

    def _is_used(self, buffer: Buffer) -> bool:
        return any(re.search(rf"\b{re.escape(buffer.name)}\b(?!\.)", line) for line in self.lines)

    def _scalars(self, body: str) -> list[str]:
        used: list[str] = []
        needed = body
        for name, value in reversed(self.program.scalars):
            if re.search(rf"\b{re.escape(name)}\b", needed):
                used.insert(0, f"{name} = {host_number(value, self.number)}")
                needed += used[0]
        return used

    def _products(self) -> list[str]:
        """Define what kernels want of sizes."""
        lines = []
        for launch in [each for launches in self.work for one in launches for each in (one.held, one) if each is not None]:
            for name, index in launch.function.sizes.items():
                if not _is_size(index) and index not in self._constants:
                    text = index_text(index, self._style)
                    self._constants[index] = self._names.new(name)
                    lines.append(f"{self._constants[index]} = {text}")
        return lines

    # --- the body ---

    def _body(self) -> None:
        filled = {id(buffer): content for buffer, content in self.program.fills}
        called = {id(buffer) for kernel in self.program.kernels for step in kernel.steps for buffer in step.results}
        made: set[int] = {id(buffer) for buffer in self._inputs}
        for buffer in (*self.program.outputs, *self.program.workspaces):
            if id(buffer) not in made and id(buffer) not in called:
                made.add(id(buffer))
                self._allocate(buffer, filled.get(id(buffer)))
        for kernel, launches in zip(self.program.kernels, self.work, strict=True):
            if kernel.form == "call":
                used = self._read()
                self.lines += [line for step in kernel.steps for line in call_lines(step, self.number, used)]
            for launch in launches:
                self._launch(launch)
        for buffer in self.program.mutated:
            self._write_back(buffer)
        names = [buffer.name for buffer in self.program.outputs]
        if names:
            one = len(names) == 1
            self.lines.append(f"return {', '.join(names)}{',' if one and not self.program.single else ''}")

    def _read(self) -> set[str]:
        """The tensors that something reads."""
        found = {buffer.name for buffer in self.program.outputs}
        for kernel, launches in zip(self.program.kernels, self.work, strict=True):
            found = found.union(*({buffer.name for buffer in launch.function.pointers.values()} for launch in launches))
            found |= {buffer.name for step in kernel.steps for buffer in step.operands}
        return found

    @property
    def _device(self) -> str:
        if not self._inputs:
            raise Unprintable("Triton: a reference without tensors: no device to work on")
        return f"{self._inputs[0].name}.device"

    def _allocate(self, buffer: Buffer, content: float | int | bool | Buffer | None) -> None:
        shape, kind = self._shape(buffer.shape), f"dtype={self._dtype(buffer)}, device={self._device}"
        if content is None or isinstance(content, Buffer):
            self.lines.append(f"{buffer.name} = torch.empty({shape}, {kind})")
        elif content == 0:
            self.lines.append(f"{buffer.name} = torch.zeros({shape}, {kind})")
        else:
            self.lines.append(f"{buffer.name} = torch.full({shape}, {_literal(content)}, {kind})")
        if isinstance(content, Buffer):
            self.functions.add("copy_all")
            self.lines.append(
                f"copy_all[(triton.cdiv({buffer.name}.numel(), 1024),)]({content.name}, {buffer.name}, {buffer.name}.numel(), 1024)"
            )

    def _write_back(self, buffer: Buffer) -> None:
        if len(buffer.shape) > 4:
            raise Unprintable(f"{buffer.name} is changed in place and has {len(buffer.shape)} axes; four at most are written back")
        self.functions.add("write_back")
        self.lines += [
            f"if not given_{buffer.name}.is_contiguous():",
            f"{INDENT}write_back({buffer.name}, given_{buffer.name})",
        ]

    def _launch(self, launch: Launch) -> None:
        if launch.held is not None:
            return self._held(launch, launch.held)
        self._launched(launch, self._sides(launch))
        return None

    def _held(self, launch: Launch, held: Launch) -> None:
        """Launch the one that holds its tile whole where it does, else the other."""
        blocks = self._sides(held)
        sides = [side for _, sides in held.tiles for side in sides if side[0] not in held.programs]
        tests = [f"{blocks[block]} >= {self.number(extents[0])}" for block, extents in sides]
        before, self.lines = self.lines, []
        self._launched(held, blocks)
        inside, self.lines = self.lines, []
        self._launched(launch, blocks if launch.tiles == held.tiles else self._sides(launch))
        after = self.lines
        self.lines = [*before, f"if {' and '.join(tests)}:", *_indented(inside), "else:", *_indented(after)]

    def _launched(self, launch: Launch, blocks: dict[str, str]) -> None:
        function = launch.function
        if launch.parts is not None:
            block, extent = launch.parts
            self.lines.append(f"parts = max(1, min(PARTS, triton.cdiv({self.number(extent)}, {blocks[block]})))")
        for name, dtype, count in launch.scratch:
            self.lines.append(f"{name} = torch.empty({count}, dtype={dtype}, device={self._device})")
        grid = launch.grid or ("parts" if launch.parts else " * ".join(self._programs(launch))) or "1"
        arguments = [
            *(buffer.name for buffer in function.pointers.values()),
            *function.numbers.values(),
            *(self.number(index) for index in function.sizes.values()),
            *(launch.constants.get(block) or blocks[block] for block in function.blocks),
            f"num_warps={launch.warps}",
        ]
        self.lines += _called(f"{function.name}[({grid},)]", arguments)

    def _sides(self, launch: Launch) -> dict[str, str]:
        found: dict[str, str] = {}
        for limit, sides in launch.tiles:
            if not sides:
                continue
            extents = []
            for block, lengths in sides:
                found[block] = BLOCKS.get(block, block.lower())
                text = self.number(lengths[0]) if len(lengths) == 1 else f"max({', '.join(map(self.number, lengths))})"
                extents.append(f"min({launch.cut[block]}, {text})" if block in launch.cut else text)
            names = [found[block] for block, _ in sides]
            if sides[0][0] in (*launch.programs, launch.parts and launch.parts[0]):  # the grid covers it, however long a side is
                self._tile(limit, names, extents)
            else:
                self.functions.add("sides")
                unpacked = ", ".join(names) if len(sides) > 1 else f"({names[0]},)"
                self.lines.append(f"{unpacked} = sides({limit}, {', '.join(extents)})")
        for block, limit, extent in launch.dots:
            if block in launch.programs:
                found[block] = BLOCKS.get(block, block.lower())
                self.functions.add("dot_side")
                self.lines.append(f"{found[block]} = dot_side({limit}, {self.number(extent)})")
            else:
                found[block] = limit
        self.functions |= {"dot_type"} if "KIND" in launch.constants else set()
        return found

    def _tile(self, limit: str, names: Sequence[str], extents: Sequence[str]) -> None:
        """The sides of a tile whose first has what the others leave of its elements."""
        if len(names) == 1:
            self.lines.append(f"{names[0]} = {limit}")
        elif len(names) == 2:
            self.functions.add("side")
            self.lines += [f"{names[1]} = side({limit}, {extents[1]})", f"{names[0]} = {limit} // {names[1]}"]
        else:
            self.functions.add("sides")
            self.lines.append(f"{', '.join(names[1:])} = sides({limit}, {', '.join(extents[1:])})")
            self.lines.append(f"{names[0]} = {limit} // {' // '.join(names[1:])}")

    def _programs(self, launch: Launch) -> list[str]:
        extents = {block: lengths for _, sides in launch.tiles for block, lengths in sides}
        extents |= {block: (extent,) for block, _, extent in launch.dots}
        batch = [self.number(launch.batch, UNARY)] if launch.batch is not None else []
        return batch + [f"triton.cdiv({self.number(extents[block][0])}, {BLOCKS.get(block, block.lower())})" for block in launch.programs]


def _called(head: str, arguments: Sequence[str]) -> list[str]:
    line = f"{head}({', '.join(arguments)})"
    if len(line) + len(INDENT) <= WIDTH:
        return [line]
    inner = f"{INDENT}{', '.join(arguments)}"
    if len(inner) + len(INDENT) <= WIDTH:
        return [f"{head}(", inner, ")"]
    return [f"{head}(", *(f"{INDENT}{argument}," for argument in arguments), ")"]


def _indented(lines: Sequence[str]) -> list[str]:
    return [INDENT + line for line in lines]


def _unpacked(name: str, sizes: dict[int, str], rank: int) -> str:
    if len(sizes) == 1 and rank > 1:
        ((number, size),) = sizes.items()
        return f"{size} = {name}.shape[{number}]"
    parts = [sizes.get(number, "_") for number in range(rank)]
    return f"{', '.join(parts)} = {name}.shape" if rank > 1 else f"({parts[0]},) = {name}.shape"


def _measured(check: tuple[Index, Index, str]) -> re.Match[str] | None:
    """Whether a check is of an input's shape, and of which."""
    return re.fullmatch(r"(\w+)\.size\(\d+\)", repr(check[0]))


def _literal(value: float | int | bool) -> str:
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return f'{"-" if value < 0 else ""}float("inf")'
    return 'float("nan")' if value != value else repr(value)


def _is_size(index: Index) -> bool:
    return len(index.terms) == 1 and all(len(monomial) == 1 and factor == 1 for monomial, factor in index.terms)


def _of_size(size: Size | Axis) -> str:
    if isinstance(size, Axis):
        raise Unprintable(f"Triton: the wrapper would need the loop variable {size.name}")
    return size.name


def _no_read(value: object) -> str:
    raise Unprintable(f"Triton: a size that depends on memory: {value}")


__all__ = ["PLUS", "Wrapper"]
