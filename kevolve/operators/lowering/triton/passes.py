"""Passes in Triton: loops over blocks, accumulators as wide as the tile, stores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from kevolve.operators.lowering.expression import Expression
from kevolve.operators.lowering.index import Axis, Index
from kevolve.operators.lowering.printing import ATOM, Unprintable
from kevolve.operators.lowering.program import Kernel, Pass, Step, Store
from kevolve.operators.lowering.triton.expression import AND, COMPARED, TYPES, is_float
from kevolve.operators.lowering.triton.function import Function, Side
from kevolve.operators.lowering.triton.tile import Regrouping, reads, row_major

BITS = {"int64": 63, "int32": 31, "int16": 15, "int8": 7}
NOWHERE = str(2**63 - 1)  # the place of nothing yet
VANISHING = frozenset({"mul", "add", "sub", "neg", "abs", "cast"})
ATOMIC = {"set": "tl.store", "add": "tl.atomic_add", "max": "tl.atomic_max", "min": "tl.atomic_min"}


@dataclass(slots=True)
class Partial:
    """A reduction under way: its accumulators, a variable each; ``places`` for the argument of an extreme."""

    step: Step
    body: Expression
    lanes: str = ""
    places: str = ""


def neutral(combine: str, dtype: str) -> str:
    """What changes nothing."""
    if combine in ("sum", "prod"):
        return {"sum": "0", "prod": "1"}[combine] + (".0" if is_float(dtype) else "")
    if combine in ("any", "all"):
        return str(combine == "all")
    low = combine in ("max", "argmax", "argmin")  # the argument of a minimum is that of the maximum of what is negated
    if is_float(dtype):
        return '-float("inf")' if low else 'float("inf")'
    if dtype not in BITS:
        return "0" if low else "255"
    return str(-(2 ** BITS[dtype]) if low else 2 ** BITS[dtype] - 1)


class Passes:
    """Writes the passes of a kernel into a function, in terms of its groups."""

    def __init__(self, function: Function, regrouping: Regrouping) -> None:
        self.function = function
        self.regrouping = regrouping
        self.whole: Sequence[Side] = ()  # the sides of passes that the tile holds whole, without loops

    # --- what a pass needs ---

    def roots(self, steps: Sequence[Step]) -> list[Expression]:
        """What is evaluated in the innermost loop."""
        found: list[Expression] = []
        for step in steps:
            if step.body is not None:
                found.append(self.regrouping.expression(step.body))
            for store in step.stores:
                found += self._of_store(store)
        return found

    def _of_store(self, store: Store) -> list[Expression]:
        found = [self.regrouping.expression(store.value), *reads(self.regrouping.index(store.place))]
        return found + ([self.regrouping.expression(store.condition)] if store.condition is not None else [])

    # --- writing ---

    def hold(self, kernel: Kernel, sides: Sequence[Side]) -> None:
        """Write all passes of a kernel without loops: the tile holds these sides whole."""
        for side in sides:
            self.function.place(side, "", wide=self.is_wide(side, kernel.steps))
        self.share(kernel.steps)
        self.function.reuse([self.roots(each.steps) for each in kernel.passes])
        self.whole = sides
        for each in kernel.passes:
            self.function.define(self.function.plan(self.roots(each.steps), [])[0])
            for step in each.steps:
                if step.kind == "reduce" and step.body is not None:
                    self._reduce_held(Partial(step, self.regrouping.expression(step.body)), sides if each.axes else [])
            self.inner(each.steps, [], [])

    def _reduce_held(self, partial: Partial, sides: Sequence[Side]) -> None:
        """A reduction of what the tile holds."""
        function, step, body = self.function, partial.step, partial.body
        if not sides:
            return self.finish(partial, [])
        mask = function.mask(frozenset().union(*(side.axes for side in sides)), only=sides)
        dtype = body.dtype if step.combine.startswith("arg") else step.dtype
        cast = f".to({TYPES[dtype]})" if TYPES[body.dtype] != TYPES[dtype] else ""
        negated = step.combine == "argmin"
        text = f"{'-' if negated else ''}{function.text(body, 100 if cast or negated else 0, room=len(mask) + 50)}{cast}"
        plain = step.combine == "sum" and vanishes(body, sides)
        partial.lanes = text if plain else f"tl.where({mask}, {text}, {neutral(step.combine, dtype)})"
        if step.combine.startswith("arg"):
            place = function.writer.index(self.regrouping.index(row_major(step.inner)), ATOM)
            values, partial.places = (
                function.new(f"{step.name or step.combine}_values"),
                function.new(f"{step.name or step.combine}_places"),
            )
            function.line(f"{values} = {partial.lanes}")
            function.line(f"{partial.places} = tl.where({mask}, {place}.to(tl.int64), {NOWHERE})")
            partial.lanes = values
        self.fold(partial, [side.position for side in sides], keep=function.ndim > len(sides))
        function.results[id(step)] = partial.places or partial.lanes
        self.keep(step)
        return None

    def write(self, each: Pass, loops: Sequence[Side]) -> None:
        """A pass as a whole: accumulators, loops, what comes of them."""
        partials = self.begin(each, loops)
        with self.looped(each, loops):
            self.inner(each.steps, partials, loops)
        for partial in partials:
            self.finish(partial, loops)

    @contextmanager
    def looped(self, each: Pass, loops: Sequence[Side], *, shared: bool = False) -> Iterator[None]:
        """The loops over blocks around the innermost statements, and what is worked out at the beginning of each.

        ``shared``: the blocks of the outermost one are shared among programs.
        """
        function = self.function
        self.share(each.steps)
        levels = function.plan(self.roots(each.steps), loops)
        function.define(levels[0])
        with ExitStack() as stack:
            for side, values in zip(loops, levels[1:], strict=True):
                start = function.local("start")
                extent = function.extent(side)
                function.block(side.block)
                bounds = f"0, {extent}, {side.block}"
                if shared and side is loops[0]:
                    bounds = f"tl.program_id(0).to(tl.int64) * {side.block}, {extent}, tl.num_programs(0) * {side.block}"
                stack.enter_context(function.inside(f"for {start} in range({bounds}):"))
                function.place(side, start, wide=self.is_wide(side, each.steps))
                function.define(values)
            yield

    def share(self, steps: Sequence[Step]) -> None:
        """Places that are used more than once get a variable."""
        stores = [self.regrouping.index(store.place) for step in steps for store in step.stores]
        loads = [part for part in self.function.order(self.roots(steps)) if part.op == "load"]
        self.function.share([part.value[1] for part in loads] + stores)

    def is_wide(self, side: Side, steps: Sequence[Step]) -> bool:
        """Whether products with an axis of this side may pass 32 bits."""
        for step in steps:
            for root in self.roots([step]):
                for part in self.function.order([root]):
                    for content in part.value if isinstance(part.value, tuple) else ():
                        if isinstance(content, Index) and _is_scaled(content, side.axes):
                            return True
            if any(_is_scaled(self.regrouping.index(store.place), side.axes) for store in step.stores):
                return True
        return False

    def begin(self, each: Pass, loops: Sequence[Side]) -> list[Partial]:
        """Accumulators, before the loops."""
        found = []
        for step in each.steps:
            if step.kind == "reduce" and step.body is not None:
                partial = Partial(step, self.regrouping.expression(step.body))
                if loops:
                    self._accumulators(partial, loops)
                found.append(partial)
        return found

    def _accumulators(self, partial: Partial, loops: Sequence[Side]) -> None:
        function, step = self.function, partial.step
        dtype = partial.body.dtype if step.combine.startswith("arg") else step.dtype
        shape = function.shape([*function.sides, *loops])
        partial.lanes = function.new(f"{step.name or step.combine}_lanes")
        start = neutral(step.combine, dtype)
        filled = f"tl.zeros({shape}, {TYPES[dtype]})" if start in ("0", "0.0") else f"tl.full({shape}, {start}, {TYPES[dtype]})"
        function.line(f"{partial.lanes} = {filled}")
        if step.combine.startswith("arg"):
            partial.places = function.new(f"{step.name or step.combine}_places")
            function.line(f"{partial.places} = tl.full({shape}, {NOWHERE}, tl.int64)")

    def inner(self, steps: Sequence[Step], partials: Sequence[Partial], loops: Sequence[Side]) -> None:
        """The innermost statements."""
        for partial in partials:
            if loops:
                self._accumulate(partial, loops)
        for step in steps:
            for store in step.stores:
                if step.kind == "scatter" and step.combine not in ATOMIC:
                    raise Unprintable(f"Triton has no atomic operation for a scatter by {step.combine}")
                self.store(store, ATOMIC[step.combine] if step.kind == "scatter" else "tl.store")

    def _accumulate(self, partial: Partial, loops: Sequence[Side]) -> None:
        function, step, body = self.function, partial.step, partial.body
        combine, name = step.combine, partial.lanes
        mask = function.mask(frozenset().union(*(side.axes for side in loops)), only=loops)
        if combine.startswith("arg"):
            return self._accumulate_place(partial, loops, mask)
        if combine in ("any", "all"):
            value = function.text(body, AND + 1, room=len(mask))
            test = mask if mask.isidentifier() else f"({mask})"
            function.line(f"{name} |= {value} & {test}" if combine == "any" else f"{name} &= {value} | ~{test}")
            return None
        cast = f".to({TYPES[step.dtype]})" if TYPES[body.dtype] != TYPES[step.dtype] else ""
        pattern = "{}" if combine == "sum" and vanishes(body, loops) else f"tl.where({mask}, {{}}, {neutral(combine, step.dtype)})"
        if combine in ("sum", "prod"):
            pattern = f"{name} {'+' if combine == 'sum' else '*'}= {pattern}"
        else:
            pattern = f"{name} = {self._better(combine, step.dtype)}({name}, {pattern})"
        function.line(pattern.format(function.text(body, 100 if cast else 0, room=len(pattern) + len(cast)) + cast))
        return None

    def _better(self, combine: str, dtype: str) -> str:
        if not is_float(dtype):
            return f"tl.{combine}imum"
        name = "larger_of" if combine == "max" else "smaller_of"
        self.function.writer.functions.add(name)
        return name

    def _accumulate_place(self, partial: Partial, loops: Sequence[Side], mask: str) -> None:
        function, step = self.function, partial.step
        function.writer.functions.add("comes_first")
        negated = step.combine == "argmin"
        value = function.new("candidate")
        function.line(f"{value} = {'-' if negated else ''}{function.text(partial.body, 90 if negated else 0)}")
        better = function.new("better")
        test = mask if mask.isidentifier() else f"({mask})"
        function.line(f"{better} = comes_first({value}, {partial.lanes}, {partial.places}) & {test}")
        place = function.writer.index(self.regrouping.index(row_major(step.inner)))
        function.line(f"{partial.lanes} = tl.where({better}, {value}, {partial.lanes})")
        function.line(f"{partial.places} = tl.where({better}, {place}, {partial.places})")

    def finish(self, partial: Partial, loops: Sequence[Side]) -> None:
        """The result from the accumulators."""
        function, step = self.function, partial.step
        if not loops:
            known = function.writer.names.get(id(partial.body))
            function.results[id(step)] = known or function.assign(partial.body, step.name)
        else:
            self.fold(partial, [side.position for side in loops], keep=bool(function.sides))
            function.results[id(step)] = partial.places or partial.lanes
        self.keep(step)

    def fold(self, partial: Partial, positions: Sequence[int], *, keep: bool = False, best_too: bool = False) -> None:
        """Reduce the accumulators along some sides. ``keep``: a side of one element is left in their place.

        ``best_too``: of an argument the extreme itself as well.
        """
        function, step = self.function, partial.step
        if step.combine.startswith("arg"):
            return self._fold_places(partial, positions, keep=keep, best_too=best_too)
        text = partial.lanes
        for position in sorted(positions, reverse=True):
            text = self._reduced(step.combine, step.dtype, text, position, keep)
        partial.lanes = function.new(step.name or step.combine)
        function.line(f"{partial.lanes} = {text}")
        return None

    def _reduced(self, combine: str, dtype: str, text: str, position: int, keep: bool) -> str:
        function = self.function
        kept = ", keep_dims=True" if keep else ""
        if combine == "sum":
            return f"tl.sum({text}, axis={position}{kept})"
        if combine == "prod":
            function.writer.functions.add("times")
            return f"tl.reduce({text}, {position}, times{kept})"
        if combine in ("any", "all"):
            flags = text if text.isidentifier() else f"({text})"
            return f"tl.{'max' if combine == 'any' else 'min'}({flags}.to(tl.int32), axis={position}{kept}) != 0"
        if not is_float(dtype):
            return f"tl.{combine}({text}, axis={position}{kept})"
        name = "largest_of" if combine == "max" else "smallest_of"
        function.writer.functions.add(name)
        return f"{name}({text}, {position}, {keep})"

    def _fold_places(self, partial: Partial, positions: Sequence[int], *, keep: bool, best_too: bool) -> None:
        function, step = self.function, partial.step
        helper = "first_of_best" if is_float(partial.body.dtype) else "first_of_best_whole"
        function.writer.functions.add(helper)
        for position in sorted(positions, reverse=True):
            found = function.new(step.name or step.combine)
            best = function.new(f"{step.name or step.combine}_best") if best_too or position != min(positions) else "_"
            function.line(f"{best}, {found} = {helper}({partial.lanes}, {partial.places}, {position}, {keep})")
            partial.lanes, partial.places = best, found

    def keep(self, step: Step) -> None:
        """The result, stored where later kernels find it."""
        if step.buffer is not None:
            self.function.store(step.buffer, self.regrouping.index(row_major(step.axes)), self.function.results[id(step)])

    def store(self, store: Store, by: str = "tl.store") -> None:
        """One store of a step."""
        function = self.function
        value = self.regrouping.expression(store.value)
        place = self.regrouping.index(store.place)
        address = function.address(store.buffer, place)
        condition = self.regrouping.expression(store.condition) if store.condition is not None else None
        text = function.text(value, room=len(address) + 30)
        function.store(store.buffer, place, text, condition, by=by)


def vanishes(value: Expression, loops: Sequence[Side]) -> bool:
    """Whether it is zero beyond the loops' ends, where loads give zero."""
    axes = frozenset[Axis]().union(*(side.axes for side in loops))
    if value.op == "load":
        place = value.value[1].axes
        return all(side.axes & place for side in loops) and bool(axes & place)
    if value.op == "cast" and value.arguments[0].dtype != "bool":
        return vanishes(value.arguments[0], loops)
    return value.op in VANISHING and value.op != "cast" and all(vanishes(argument, loops) for argument in value.arguments)


def _is_scaled(index: Index, axes: frozenset[Axis]) -> bool:
    for axis in axes:
        step = index.coefficient(axis)
        if axis in index.atoms and (step is None or step.number is None or abs(step.number) > 64):
            return True
    return False


__all__ = ["COMPARED", "Partial", "Passes", "Unprintable", "neutral", "vanishes"]
