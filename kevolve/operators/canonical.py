"""From recorded operators to canonical terms: one small rule an operator, everything else by its name and arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kevolve.operators.algebra import Algebra
from kevolve.operators.recorder import Argument, Entry, Ref

_SAME = (
    *("detach", "alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy", "expand", "expand_as", "unsqueeze", "squeeze"),
    *("positive", "broadcast_to", "broadcast_in_dim", "device_put", "view_of"),
)
_RESHAPES = ("view", "_unsafe_view", "reshape", "_reshape_alias")
_FILLED = {"zeros": 0.0, "zeros_like": 0.0, "new_zeros": 0.0, "ones": 1.0, "ones_like": 1.0, "new_ones": 1.0}
_FULL = ("full", "full_like", "new_full", "scalar_tensor", "fill")
_COMMUTATIVE = (
    *("maximum", "minimum", "eq", "ne", "logical_and", "logical_or", "logical_xor"),
    *("bitwise_and", "bitwise_or", "bitwise_xor"),
)
_SWAPPED = {"gt": "lt", "ge": "le"}
_IGNORED = (  # how and where it is computed, not what; `side` says what `right` does
    *("dtype", "layout", "device", "pin_memory", "memory_format", "non_blocking", "keepdim", "out_int32", "generator", "implicit"),
    *("sparse_grad", "sorter", "output_size", "requires_grad", "half_to_float", "copy", "side"),
)
_REDUCTIONS = {"sum": "sum", "amax": "max", "amin": "min", "prod": "prod", "any": "any", "all": "all"}


class Canonical:
    """Terms of the entries, made on demand: what no output needs is never looked at."""

    def __init__(self, entries: Sequence[Entry], algebra: Algebra, positions: Mapping[int, int] | None = None) -> None:
        """``positions``: which of the reference's inputs stands for each of the pattern's (none: the same)."""
        self._entries, self._algebra, self._positions = entries, algebra, dict(positions or {})
        self._known: dict[Ref, str] = {}

    def term(self, ref: Ref) -> str:
        """The canonical term of one recorded tensor. Entries are made in order, so that long graphs need no deep recursion."""
        needed: set[int] = set()
        waiting = [ref.index]
        while waiting:
            index = waiting.pop()
            if index not in needed:
                needed.add(index)
                waiting += [found.index for value in self._entries[index].arguments.values() for found in _refs(value)]
        for index in sorted(needed):
            for output in range(len(self._entries[index].shapes)):
                if Ref(index, output) not in self._known:
                    self._known[Ref(index, output)] = self._make(self._entries[index], output)
        return self._known[ref]

    def _make(self, entry: Entry, output: int) -> str:
        algebra, given = self._algebra, entry.arguments
        if entry.op == "input":
            position = given["position"]
            assert isinstance(position, int)
            return algebra.make("input", (), (self._positions.get(position, position),))
        if entry.op in _FILLED:
            return algebra.constant(_FILLED[entry.op])
        if entry.op in _FULL:
            return self._of(given.get("fill_value", given.get("value", given.get("s"))))
        if entry.op == "var_mean" and output == 1:
            return self._mean_of(self._of(entry.arguments["self"]), self._reduced(entry))
        rule = _RULES.get(entry.op)
        made = rule(self, entry) if rule is not None and output == 0 else None
        return made if made is not None else self._generic(entry, output)

    def _of(self, value: Argument) -> str:
        if isinstance(value, Ref):
            return self._known[value]
        if isinstance(value, int | float):
            return self._algebra.constant(float(value))
        return self._algebra.make("value", (), (value,))

    def _shape(self, value: Argument) -> tuple[int, ...]:
        return self._entries[value.index].shapes[value.output] if isinstance(value, Ref) else ()

    def _kind(self, value: Argument) -> str:
        return self._entries[value.index].kinds[value.output] if isinstance(value, Ref) else ""

    def _generic(self, entry: Entry, output: int) -> str:
        """An operator by name: its tensors, then what else it was given."""
        rank = len(self._shape(next((value for value in entry.arguments.values() if isinstance(value, Ref)), None)))
        terms: list[str] = []
        attributes: list[object] = [output] if output else []
        for name, value in entry.arguments.items():
            if isinstance(value, tuple) and any(isinstance(item, Ref) for item in value):
                terms += [self._of(item) for item in value]
            elif isinstance(value, Ref) or (name == "other" and isinstance(value, int | float)):
                terms.append(self._of(value))
            elif name == "side" and value == "right":
                attributes.append(("right", True))
            elif name not in _IGNORED and value is not None and value is not False:
                attributes.append((name, _positive(name, value, rank)))
        op = _SWAPPED.get(entry.op, entry.op)
        if op != entry.op:
            terms.reverse()
        if op in _COMMUTATIVE:
            terms.sort()
        return self._algebra.make(op, terms, attributes)

    # one rule each: a term, or None where the general form must do

    def _same(self, entry: Entry) -> str | None:
        return self._of(entry.arguments.get("self", entry.arguments.get("a", entry.arguments.get("input"))))

    def _convert(self, entry: Entry) -> str | None:
        """A cast is dropped unless it cuts fractions off."""
        source = entry.arguments.get("src", entry.arguments.get("self", entry.arguments.get("a")))
        cut = entry.kinds[0] == "int" and self._kind(source) == "float"
        return self._algebra.make("to_int", [self._of(source)]) if cut else self._of(source)

    def _reshape(self, entry: Entry) -> str | None:
        before, after = self._shape(entry.arguments["self"]), entry.shapes[0]
        if _bare(before) == _bare(after):
            return self._of(entry.arguments["self"])
        return self._algebra.make("reshape", [self._of(entry.arguments["self"])], _bare(after))

    def _add(self, entry: Entry, sign: float = 1.0) -> str | None:
        alpha = entry.arguments.get("alpha", 1)
        factor = float(alpha) if isinstance(alpha, int | float) else 1.0
        return self._algebra.add([(self._of(entry.arguments["self"]), 1.0), (self._of(entry.arguments["other"]), sign * factor)])

    def _subtract(self, entry: Entry) -> str | None:
        return self._add(entry, -1.0)

    def _subtract_from(self, entry: Entry) -> str | None:
        return self._algebra.add([(self._of(entry.arguments["other"]), 1.0), (self._of(entry.arguments["self"]), -1.0)])

    def _negate(self, entry: Entry) -> str | None:
        return self._algebra.add([(self._of(entry.arguments["self"]), -1.0)])

    def _multiply(self, entry: Entry) -> str | None:
        return self._algebra.multiply([(self._of(entry.arguments["self"]), 1.0), (self._of(entry.arguments["other"]), 1.0)])

    def _divide(self, entry: Entry) -> str | None:
        if entry.arguments.get("rounding_mode") is not None:
            return None
        return self._algebra.multiply([(self._of(entry.arguments["self"]), 1.0), (self._of(entry.arguments["other"]), -1.0)])

    def _power(self, entry: Entry) -> str | None:
        exponent = entry.arguments.get("exponent")
        return self._algebra.power(self._of(entry.arguments["self"]), exponent) if isinstance(exponent, int | float) else None

    def _reduce(self, entry: Entry) -> str | None:
        return self._algebra.reduce(_REDUCTIONS[entry.op], self._of(entry.arguments["self"]), self._reduced(entry))

    def _reduced(self, entry: Entry) -> tuple[int, ...]:
        """The sizes of the axes that a reduction sums over."""
        shape, dims = self._shape(entry.arguments["self"]), entry.arguments.get("dim", entry.arguments.get("dims"))
        chosen = (dims,) if isinstance(dims, int) else dims
        if not isinstance(chosen, tuple) or not chosen or not shape:
            return shape
        return tuple(shape[dim] for dim in chosen if isinstance(dim, int))

    def _mean(self, entry: Entry) -> str | None:
        return self._mean_of(self._of(entry.arguments["self"]), self._reduced(entry))

    def _mean_of(self, term: str, sizes: tuple[int, ...], correction: float = 0.0) -> str:
        count = 1
        for size in sizes:
            count *= size
        if count <= correction:
            return self._algebra.make("empty_mean", [term], sizes)
        return self._algebra.multiply([(self._algebra.reduce("sum", term, sizes), 1.0)], 1.0 / (count - correction))

    def _variance(self, entry: Entry) -> str | None:
        term, sizes = self._of(entry.arguments["self"]), self._reduced(entry)
        correction = entry.arguments.get("correction", entry.arguments.get("unbiased", 1))
        correction = 1.0 if correction is None or correction is True else correction
        centred = self._algebra.add([(term, 1.0), (self._mean_of(term, sizes), -1.0)])
        return self._mean_of(self._algebra.power(centred, 2.0), sizes, float(correction)) if isinstance(correction, int | float) else None

    def _largest(self, entry: Entry) -> str | None:
        """``max(dim)``: its first result is ``amax``."""
        if isinstance(entry.arguments.get("other"), Ref):
            return self._algebra.make("maximum", sorted(self._of(entry.arguments[name]) for name in ("self", "other")))
        return self._algebra.reduce("max" if entry.op == "max" else "min", self._of(entry.arguments["self"]), self._reduced(entry))

    def _search(self, entry: Entry) -> str | None:
        """``searchsorted`` in one row is ``bucketize``."""
        given = entry.arguments
        if len(self._shape(given["sorted_sequence"])) != 1 or given.get("sorter") is not None:
            return None
        right = bool(given.get("right")) or given.get("side") == "right"
        return self._algebra.make(
            "bucketize", [self._of(given["self"]), self._of(given["sorted_sequence"])], [("right", True)] if right else []
        )

    def _sigmoid(self, entry: Entry) -> str | None:
        algebra = self._algebra
        negated = algebra.add([(self._of(entry.arguments["self"]), -1.0)])
        return algebra.power(algebra.add([(algebra.make("exp", [negated]), 1.0)], 1.0), -1.0)

    def _transpose(self, entry: Entry) -> str | None:
        rank = len(entry.shapes[0])
        order = list(range(rank))
        if entry.op == "permute":
            dims = entry.arguments["dims"]
            order = [dim % rank for dim in dims if isinstance(dim, int)] if isinstance(dims, tuple) else order
        elif rank > 1:
            first, second = entry.arguments.get("dim0", 0), entry.arguments.get("dim1", 1)
            if isinstance(first, int) and isinstance(second, int):
                order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
        term = self._of(entry.arguments["self"])
        inner = self._algebra.terms[term]
        if inner.op == "permute" and len(inner.attributes) == rank:  # two permutations are one
            term, order = inner.arguments[0], [axis for place in order if isinstance(axis := inner.attributes[place], int)]
        return term if order == list(range(rank)) else self._algebra.make("permute", [term], order)


def _bare(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _positive(name: str, value: Argument, rank: int) -> Argument:
    """A dimension counted from the front."""
    if name.startswith("dim") and rank and isinstance(value, int) and not isinstance(value, bool):
        return value % rank
    return value


def _refs(value: Argument) -> list[Ref]:
    if isinstance(value, Ref):
        return [value]
    return [found for item in value for found in _refs(item)] if isinstance(value, tuple) else []


_RULES: dict[str, Callable[[Canonical, Entry], str | None]] = {
    **dict.fromkeys(_SAME, Canonical._same),
    **dict.fromkeys(_RESHAPES, Canonical._reshape),
    **dict.fromkeys(_REDUCTIONS, Canonical._reduce),
    **dict.fromkeys(("t", "transpose", "permute", "numpy_T"), Canonical._transpose),
    **dict.fromkeys(("var", "var_mean"), Canonical._variance),
    **dict.fromkeys(("max", "min"), Canonical._largest),
    **dict.fromkeys(("copy", "_to_copy", "to", "type_as", "convert_element_type"), Canonical._convert),
    "add": Canonical._add,
    "sub": Canonical._subtract,
    "rsub": Canonical._subtract_from,
    "neg": Canonical._negate,
    "mul": Canonical._multiply,
    "div": Canonical._divide,
    "true_divide": Canonical._divide,
    "pow": Canonical._power,
    "square": lambda made, entry: made._algebra.power(made._of(entry.arguments["self"]), 2.0),
    "sqrt": lambda made, entry: made._algebra.power(made._of(entry.arguments["self"]), 0.5),
    "rsqrt": lambda made, entry: made._algebra.power(made._of(entry.arguments["self"]), -0.5),
    "reciprocal": lambda made, entry: made._algebra.power(made._of(entry.arguments["self"]), -1.0),
    "mean": Canonical._mean,
    "searchsorted": Canonical._search,
    "sigmoid": Canonical._sigmoid,
}
