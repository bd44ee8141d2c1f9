"""The exported function: what it is given is checked and put in order, memory is allocated, kernels are called."""

from __future__ import annotations

import re

from kevolve.operators.lowering.cpp.function import File, Function, folded
from kevolve.operators.lowering.cpp.text import STORED, Printer, literal
from kevolve.operators.lowering.expression import Buffer
from kevolve.operators.lowering.index import Axis, Index, Size
from kevolve.operators.lowering.program import Program

_KINDS = {"tensor": "TensorView", "int": "int64_t", "float": "double", "bool": "bool"}


class Host:
    """One entry while it is printed."""

    def __init__(self, file: File, program: Program, kernels: list[tuple[str, Function]]) -> None:
        self.file, self.program, self.kernels = file, program, kernels
        self.names = file.names.inside()
        for argument in program.arguments:
            self.names.of(argument, argument.name)
        self.arguments = {argument.name: self.names.of(argument) for argument in program.arguments}
        self.printer = Printer(self._name, lambda buffer, place: "", file.use, lanes=False)
        self.sizes: dict[str, str] = {}
        self.scalars: dict[str, str] = {}
        self.lines: list[str] = []
        self.depth = 1

    def line(self, text: str) -> None:
        """One statement."""
        self.lines += folded("  " * self.depth + text)

    def text(self) -> str:
        """The function and its export."""
        program = self.program
        self._expectations()
        self._sizes()
        self._checks()
        self._scalars()
        self._inputs()
        self._outputs()
        self._dispatched()
        for buffer in program.mutated:
            self.line(f"{self._ordered(buffer)}.write_back();")
        tensors = [self.names.of(buffer) for buffer in program.outputs]
        kind = self._returned()
        if tensors:
            self.line(f"return {tensors[0]};" if program.single else f"return {kind}({', '.join(tensors)});")
        declared = ", ".join(f"{_KINDS[argument.kind]} {self.arguments[argument.name]}" for argument in program.arguments)
        self._drop_unused()
        function = self.file.entries[program.entry]
        head = folded(f"{kind} {function}({declared}) {{")
        export = f"TVM_FFI_DLL_EXPORT_TYPED_FUNC({program.entry}, {function});"
        return "\n".join([*head, *self.lines, "}", "", export, ""])

    def _drop_unused(self) -> None:
        """Sizes and scalars that nothing asks for."""
        for name in reversed([*self.sizes.values(), *self.scalars.values()]):
            using = [line for line in self.lines if re.search(rf"\b{name}\b", line)]
            if len(using) == 1:
                self.lines.remove(using[0])

    def _returned(self) -> str:
        count = len(self.program.outputs)
        if count == 0:
            return "void"
        return "ffi::Tensor" if self.program.single else f"ffi::Tuple<{', '.join(['ffi::Tensor'] * count)}>"

    # --- names ---

    def _name(self, thing: Size | Axis | str) -> str:
        if isinstance(thing, Size):
            if ".size(" in thing.name:
                tensor, axis = thing.name.split(".")
                return f"{self.arguments[tensor]}.{axis}"
            return self.sizes.get(thing.name) or self.arguments[thing.name]
        if isinstance(thing, str):
            return self.scalars.get(thing) or self.arguments[thing]
        raise KeyError(thing)

    def _index(self, index: Index, needs: int = 0) -> str:
        return self.printer.index(index, needs)

    def _tensor(self, buffer: Buffer) -> str:
        return self.arguments[buffer.name]

    def _ordered(self, buffer: Buffer) -> str:
        return self.names.of(buffer, f"{buffer.name}_ordered")

    def _dtype(self, buffer: Buffer) -> str:
        if buffer.like is not None:
            return f"{self.arguments[buffer.like]}.dtype()"
        return self.file.use("k" + buffer.dtype.capitalize())

    # --- parts ---

    def _expectations(self) -> None:
        for argument in self.program.arguments:
            buffer = argument.buffer
            if buffer is None:
                continue
            self.file.use("expect")
            name = self.arguments[argument.name]
            own = buffer.like == argument.name
            if not own:
                self.file.use("expect_dtype")
            dtype = "" if own else f", {self._dtype(buffer)}"
            self.line(f'expect({name}, "{argument.name}", {len(buffer.shape)}{dtype});')

    def _sizes(self) -> None:
        for size, meaning in self.program.sizes:
            if isinstance(meaning, str) and meaning == size.name:
                continue
            if isinstance(meaning, tuple):
                text = f"{self.arguments[meaning[0]]}.size({meaning[1]})"
            else:
                text = self.arguments[meaning] if isinstance(meaning, str) else self._index(meaning)
            self.sizes[size.name] = self.names.new(size.name)
            self.line(f"const int64_t {self.sizes[size.name]} = {text};")

    def _checks(self) -> None:
        for got, expected, what in self.program.checks:
            self.file.use("expect_equal")
            text = what.replace("\\", "\\\\").replace('"', '\\"')
            self.line(f'expect_equal({self._index(got)}, {self._index(expected)}, "{text}");')

    def _scalars(self) -> None:
        for name, value in self.program.scalars:
            text = self.printer.text(value)
            known = self.names.new(name)
            self.line(f"const double {known} = {text};")
            self.scalars[name] = known

    def _inputs(self) -> None:
        used = {id(buffer) for _, function in self.kernels for buffer, _ in function.buffers.values()}
        used |= {id(content) for _, content in self.program.fills if isinstance(content, Buffer)}
        used |= {id(buffer) for buffer in self.program.mutated}
        for argument in self.program.arguments:
            if argument.buffer is not None and id(argument.buffer) in used:
                self.file.use("Contiguous")
                self.line(f"const Contiguous {self._ordered(argument.buffer)}({self._tensor(argument.buffer)});")

    def _device(self) -> str:
        first = next((argument for argument in self.program.arguments if argument.kind == "tensor"), None)
        return f"{self.arguments[first.name]}.device()" if first is not None else "DLDevice{kDLCPU, 0}"

    def _outputs(self) -> None:
        for buffer in self.program.outputs:
            self.file.use("empty")
            shape = ", ".join(self._index(size) for size in buffer.shape)
            self.line(f"ffi::Tensor {self.names.of(buffer)} = empty({{{shape}}}, {self._dtype(buffer)}, {self._device()});")

    def _dispatched(self) -> None:
        """What depends on the floating dtypes: inside a function for each of them."""
        program = self.program
        buffers = [buffer for _, function in self.kernels for buffer, _ in function.buffers.values()]
        buffers += [*program.workspaces, *(buffer for buffer, _ in program.fills)]
        groups = list(dict.fromkeys(buffer.like for buffer in buffers if buffer.like is not None))
        for like in groups:
            zero = self.names.new("zero")
            self.line(f"{self.file.use('dispatch')}({self.arguments[like]}.dtype(), [&](auto {zero}) {{")
            self.depth += 1
            self.line(f"using {self.file.types[like]} = decltype({zero});")
        self._workspaces()
        self._fills()
        for name, function in self.kernels:
            given = [self._given(kind, thing) for _, kind, thing in function.parameters()]
            self.line(f"{name}({', '.join(given)});")
        for _ in groups:
            self.depth -= 1
            self.line("});")

    def _workspaces(self) -> None:
        for buffer in self.program.workspaces:
            self.file.use("scratch")
            count = self._index(_numel(buffer))
            self.line(f"const auto {self.names.of(buffer)} = scratch<{self.file.type_of(buffer)}>({count});")

    def _fills(self) -> None:
        for buffer, content in self.program.fills:
            to, count = self._pointer(buffer), self._index(_numel(buffer))
            if isinstance(content, Buffer):
                self.line(f"std::copy_n({self._pointer(content)}, {count}, {to});")
                continue
            self.file.use("kGrain")
            floating = buffer.like is not None or buffer.dtype in ("float16", "bfloat16")
            value, _ = literal(content, "float32" if floating else buffer.dtype, self.file.use)
            self.file.use("fill_narrow" if floating else "fill")
            kind = "" if floating or buffer.dtype in ("float32", "float64") else f"<{STORED[buffer.dtype]}>"
            self.line(f"fill{kind}({to}, {count}, {value});")

    def _given(self, kind: str, thing: object) -> str:
        if kind == "buffer":
            assert isinstance(thing, Buffer)
            return self._pointer(thing)
        assert isinstance(thing, str)
        return (self.sizes.get(thing) if kind == "size" else self.scalars.get(thing)) or self.arguments[thing]

    def _pointer(self, buffer: Buffer) -> str:
        kind = self.file.type_of(buffer)
        if buffer.role == "input":
            return f"{self._ordered(buffer)}.data<{kind}>()"
        if buffer.role == "output":
            return f"static_cast<{kind}*>({self.names.of(buffer)}.data_ptr())"
        return f"{self.names.of(buffer)}.get()"


def _numel(buffer: Buffer) -> Index:
    total = Index.of(1)
    for size in buffer.shape:
        total = total * size
    return total
