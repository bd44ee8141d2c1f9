"""Symbolic sizes of a trace as ``Index``: named by the spec's arguments and the docstring's axes, compound ones by what they are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kevolve.operators.lowering.capture import Captured, Uncovered
from kevolve.operators.lowering.expression import Expression, constant, make, place
from kevolve.operators.lowering.index import Index, Quotient, Size, bounded


class SizeTable:
    """What each symbol is called and where its value comes from. ``definitions``: as ``Program.sizes``."""

    def __init__(self, captured: Captured, taken: set[str]) -> None:
        self.definitions: list[tuple[Size, tuple[str, int] | str | Index]] = []
        self.scalars: list[tuple[str, Expression]] = []
        self.checks: list[tuple[Index, Index, str]] = []
        self._captured, self._taken = captured, taken
        self._by_symbol: dict[str, Index] = {}
        self._floats: dict[str, str] = {}  # symbol -> argument
        self._derived: dict[str, Index] = {}
        self.called: dict[Index, str] = {}  # products that are a size of an input, by its name
        self._scalar_names: dict[int, str] = {}
        self._define()

    def _define(self) -> None:
        import torch

        for item in sorted(self._captured.inputs, key=lambda item: not item.sizes):  # those whose axes have names first
            if isinstance(item.value, torch.Tensor):
                for axis, size in enumerate(item.fake.shape):
                    self._define_axis(item.name, item.sizes[axis] if item.sizes else "", axis, size)
            elif isinstance(item.value, float):
                self._floats[str(item.fake.node.expr)] = item.name
            elif isinstance(item.value, int) and not isinstance(item.value, bool):
                symbol = str(item.fake.node.expr)
                if symbol not in self._by_symbol:
                    size = Size(item.name)
                    self._taken.add(item.name)
                    self.definitions.append((size, item.name))
                    self._by_symbol[symbol] = Index.of(size)
        self._divide()

    def _define_axis(self, name: str, axis_name: str, axis: int, size: Any) -> None:
        if isinstance(size, int) or (expression := self._captured.environment.replace(size.node.expr)).is_number:
            number = int(size) if isinstance(size, int) else int(expression)
            dimension = Size(self.unused(f"{name}_{axis}"))
            self._taken.discard(dimension.name)
            self.checks.append((Index.of(Size(f"{name}.size({axis})")), Index.of(number), f"{name}: axis {axis}"))
            return
        symbol = str(expression)
        if symbol in self._by_symbol:
            known = self._by_symbol[symbol]
            self.checks.append((Index.of(Size(f"{name}.size({axis})")), known, f"{name}: axis {axis}"))
            return
        if not expression.is_Symbol:
            return  # a compound of others; what it is made of is known
        called = (
            axis_name if re.fullmatch(r"[a-z]\w*", axis_name) else re.sub(r"\W+", "_", axis_name).strip("_").lower() or f"{name}_{axis}"
        )
        if not re.fullmatch(r"[a-z]\w*", called):
            called = f"{name}_{axis}"
        found = Size(self.unused(called))
        self.definitions.append((found, (name, axis)))
        self._by_symbol[symbol] = Index.of(found)

    def _divide(self) -> None:
        """A symbol that is always divided by another without rest is a product: what views split and join again then disappears."""
        import sympy  # type: ignore[import-untyped]
        from torch.utils._sympy.functions import FloorDiv

        expressions = set()
        for node in self._captured.graph.nodes:
            found = node.meta.get("val")
            for size in getattr(found, "shape", ()) if not isinstance(found, tuple | list) else ():
                if not isinstance(size, int):
                    expressions.add(self._captured.environment.replace(size.node.expr))
        whole = {str(guard.expr) for guard in self._captured.environment.guards}
        for expression in sorted(expressions, key=str):
            for division in expression.atoms(FloorDiv):
                above, below = division.args
                if not above.is_Symbol or str(above) not in self._by_symbol or self._by_symbol[str(above)].number is not None:
                    continue
                exact = any(f"{name}({above}, {below})" in guard for guard in whole for name in ("Mod", "PythonMod"))
                exact = exact or isinstance(below, sympy.Symbol | sympy.Integer)
                divisor = self.index(below)
                hint_above, hint_below = self._hint(above), self._hint(below)
                if not exact or hint_above % hint_below or len(self._by_symbol[str(above)].terms) != 1:
                    continue
                old = self._by_symbol[str(above)]
                ((monomial, _),) = old.terms
                if len(monomial) != 1 or str(division) in self._derived:
                    continue
                part = Size(self.unused(f"{getattr(monomial[0], 'name', 'part')}_each"))
                self.definitions.append((part, Index.of(Quotient(old, divisor))))
                self._by_symbol[str(above)] = divisor * part
                self.called[divisor * part] = str(getattr(monomial[0], "name", ""))
                self._derived[str(division)] = Index.of(part)
                self.checks.append((old, divisor * part, f"{getattr(monomial[0], 'name', '')} as a multiple"))

    def _hint(self, expression: Any) -> int:
        return int(expression.xreplace(_hints(self._captured.environment)))

    def unused(self, name: str) -> str:
        """A name that nothing has yet, taken from now on."""
        chosen, number = name, 2
        while chosen in self._taken:
            chosen, number = f"{name}{number}", number + 1
        self._taken.add(chosen)
        return chosen

    def of(self, value: Any) -> Index:
        """A size in the graph: a number, a symbol, or a node that gives one."""
        import torch

        if isinstance(value, torch.fx.Node):
            value = value.meta["val"]
        if isinstance(value, int):
            return Index.of(value)
        if hasattr(value, "node"):
            return self.index(self._captured.environment.replace(value.node.expr))
        return self.index(value)

    def index(self, expression: Any) -> Index:
        """A sympy expression over whole numbers."""
        text = str(expression)
        if text in self._derived:
            return self._derived[text]
        if expression.is_Integer:
            return Index.of(int(expression))
        if expression.is_Symbol:
            if text not in self._by_symbol:
                raise Uncovered(f"it has a size that depends on the data ({text})")
            return self._by_symbol[text]
        parts = [self.index(part) for part in expression.args] if type(expression).__name__ != "Pow" else []
        kind = type(expression).__name__
        if kind == "Add":
            return sum(parts, Index.of(0))
        if kind == "Mul":
            product = Index.of(1)
            for part in parts:
                product = product * part
            return product
        if kind == "Pow" and expression.args[1].is_Integer and int(expression.args[1]) > 0:
            base, product = self.index(expression.args[0]), Index.of(1)
            for _ in range(int(expression.args[1])):
                product = product * base
            return product
        if kind in ("FloorDiv", "CleanDiv"):
            return self._named(text, parts[0] // parts[1])
        if kind in ("Mod", "PythonMod", "ModularIndexing"):
            return parts[0] % parts[1] if len(parts) == 2 else parts[0] // parts[1] % parts[2]
        if kind in ("Max", "Min"):
            found = parts[0]
            for part in parts[1:]:
                found = bounded(found, part, largest=kind == "Max")
            return found
        raise Uncovered(f"it has a size {expression} that nothing here can work out")

    def _named(self, text: str, found: Index) -> Index:
        """A quotient gets a name of its own, so that it is one atom from then on."""
        for guard in self._captured.environment.guards:  # known to be another size
            if guard.expr.func.__name__ in ("Eq", "Equality") and text in (str(side) for side in guard.expr.args):
                other = next(side for side in guard.expr.args if str(side) != text)
                if other.is_Symbol and str(other) in self._by_symbol:
                    self._derived[text] = self._by_symbol[str(other)]
                    return self._derived[text]
        if not any(isinstance(atom, Quotient) for atom in found.atoms):
            return found
        size = Size(self.unused(_quotient_name(found)))
        self.definitions.append((size, found))
        self._derived[text] = Index.of(size)
        return self._derived[text]

    # numbers

    def scalar(self, value: Any) -> Expression:
        """A number in the graph as a float32 expression: a constant, or a name that is worked out on the host."""
        import torch

        if isinstance(value, torch.fx.Node):
            value = value.meta["val"]
        if isinstance(value, bool | int | float):
            return constant(float(value), "float32")
        found = self._number(self._captured.environment.replace(value.node.expr))
        if found.op == "constant":
            return constant(found.value, "float32")
        if id(found) not in self._scalar_names:
            name = found.value if found.op == "scalar" else self.unused(_scalar_name(found))
            self._scalar_names[id(found)] = name
            if found.op != "scalar":
                self.scalars.append((name, found))
        return make("scalar", "float32", (), self._scalar_names[id(found)])

    def _number(self, expression: Any) -> Expression:
        kind = type(expression).__name__
        if expression.is_Symbol:
            text = str(expression)
            return make("scalar", "float64", (), self._floats[text]) if text in self._floats else _float64(place(self.index(expression)))
        if expression.is_number:
            return constant(float(expression), "float64")
        if expression.is_integer and not expression.free_symbols & {
            symbol for symbol in expression.free_symbols if str(symbol) in self._floats
        }:
            return _float64(place(self.index(expression)))
        parts = [self._number(part) for part in expression.args]
        if kind in ("Add", "Mul"):
            found = parts[0]
            for part in parts[1:]:
                found = make("add" if kind == "Add" else "mul", "float64", (found, part))
            return found
        if kind in ("FloatTrueDiv", "IntTrueDiv"):
            return make("div", "float64", (parts[0], parts[1]))
        if kind in ("FloatPow", "Pow", "PowByNatural"):
            if parts[1].op == "constant" and parts[1].value == -1.0:
                return make("div", "float64", (constant(1.0, "float64"), parts[0]))
            return make("pow", "float64", (parts[0], parts[1]))
        if kind == "ToFloat":
            return parts[0]
        if kind in ("Max", "Min"):
            return make("maximum" if kind == "Max" else "minimum", "float64", (parts[0], parts[1]))
        match = re.fullmatch(r"OpaqueUnaryFn_(\w+)", kind)
        if match and match[1] in ("sqrt", "exp", "log", "sin", "cos", "tanh"):
            return make(match[1], "float64", (parts[0],))
        raise Uncovered(f"it has a number {expression} that nothing here can work out")


def _float64(value: Expression) -> Expression:
    if value.op == "constant":
        return constant(float(value.value), "float64")
    return make("cast", "float64", (value,))


def _hints(environment: Any) -> Mapping[Any, Any]:
    found: Mapping[Any, Any] = getattr(environment, "backed_var_to_val", None) or environment.var_to_val
    return found


def _quotient_name(found: Index) -> str:
    names = sorted(atom.name for atom in found.atoms if isinstance(atom, Size))
    return f"{names[0]}_part" if names else "part"


def _scalar_name(found: Expression) -> str:
    from kevolve.operators.lowering.expression import visit

    words = {"add": "plus", "sub": "minus", "mul": "times", "div": "over", "pow": "power", "sqrt": "root"}
    names = [str(part.value) for part in visit(found) if part.op == "scalar"]
    places = [part.value for part in visit(found) if part.op == "place"]
    names += [name for place in places for name in sorted(atom.name for atom in place.atoms if isinstance(atom, Size))]
    return f"{'_'.join(dict.fromkeys(names)) or 'number'}_{words.get(found.op, found.op)}"
