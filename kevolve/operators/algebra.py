"""A canonical form for recorded formulas: two ways of writing the same sum of products get the same digest.

Casts, copies and broadcasting are dropped, sums and products are flattened, sorted and folded, roots and quotients are powers, means are
sums. Terms are known by a digest of their content, so that a shared part is looked at once however often it is used. What is lost on
the way (the order of roundings, a keepdim) does not matter here: a match is a proposal, and the evaluation decides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Atom = int | float | bool | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """An operation on terms (by digest), or ``sum``, ``product`` and ``constant`` with their numbers.

    ``weights``: of a sum, the factor of each argument; of a product, its exponent. ``number``: the constant part.
    """

    op: str
    arguments: tuple[str, ...] = ()
    attributes: tuple[object, ...] = ()
    weights: tuple[float, ...] = ()
    number: float = 0.0


def _rounded(number: float) -> str:
    """Twelve digits: 1/n computed in two ways is one number."""
    return f"{number + 0.0:.12g}"


@dataclass(slots=True)
class Algebra:
    """The terms of one trace by digest, and the operations that make canonical ones."""

    terms: dict[str, Term] = field(default_factory=dict)

    def make(self, op: str, arguments: Sequence[str] = (), attributes: Sequence[object] = ()) -> str:
        """An operation that no rule below knows."""
        return self._keep(Term(op=op, arguments=tuple(arguments), attributes=tuple(attributes)))

    def constant(self, number: float) -> str:
        """A number (a tensor filled with it is the same)."""
        return self._keep(Term(op="constant", number=float(number)))

    def add(self, parts: Sequence[tuple[str, float]], number: float = 0.0) -> str:
        """``number + sum of factor * term``."""
        factors: dict[str, float] = {}
        for term, factor in parts:
            number += self._gather(term, factor, factors)
        factors = {term: factor for term, factor in factors.items() if factor != 0.0}
        if not factors:
            return self.constant(number)
        if len(factors) == 1 and number == 0.0:
            ((term, factor),) = factors.items()
            return self.multiply([(term, 1.0)], factor)
        chosen = tuple(sorted(factors))
        return self._keep(Term(op="sum", arguments=chosen, weights=tuple(factors[term] for term in chosen), number=number))

    def _gather(self, term: str, factor: float, factors: dict[str, float]) -> float:
        """Add ``factor * term`` to ``factors``; the constant part."""
        known = self.terms[term]
        if known.op == "constant":
            return factor * known.number
        if known.op == "sum":
            for part, weight in zip(known.arguments, known.weights, strict=True):
                factors[part] = factors.get(part, 0.0) + factor * weight
            return factor * known.number
        if known.op == "product" and known.number != 1.0:
            factor, term = factor * known.number, self._product(dict(zip(known.arguments, known.weights, strict=True)), 1.0)
        factors[term] = factors.get(term, 0.0) + factor
        return 0.0

    def multiply(self, parts: Sequence[tuple[str, float]], number: float = 1.0) -> str:
        """``number * product of term ** exponent``."""
        exponents: dict[str, float] = {}
        for term, exponent in parts:
            known = self.terms[term]
            if known.op == "constant" and (known.number > 0 or (known.number != 0 and exponent.is_integer())):
                number *= known.number**exponent
            elif known.op == "product" and (known.number > 0 or exponent.is_integer()):
                number *= known.number**exponent
                for part, weight in zip(known.arguments, known.weights, strict=True):
                    exponents[part] = exponents.get(part, 0.0) + exponent * weight
            elif known.op == "constant" and known.number == 0 and exponent > 0:
                return self.constant(0.0)
            else:
                exponents[term] = exponents.get(term, 0.0) + exponent
        return self._product(exponents, number)

    def _product(self, exponents: Mapping[str, float], number: float) -> str:
        chosen = tuple(sorted(term for term, exponent in exponents.items() if exponent != 0.0))
        if not chosen:
            return self.constant(number)
        weights = tuple(exponents[term] for term in chosen)
        if weights == (1.0,) and number == 1.0:
            return chosen[0]
        return self._keep(Term(op="product", arguments=chosen, weights=weights, number=number))

    def power(self, term: str, exponent: float) -> str:
        """``term ** exponent``."""
        return self.multiply([(term, float(exponent))])

    def reduce(self, op: str, term: str, sizes: Sequence[int]) -> str:
        """A reduction over the axes of these sizes (axes are told apart by size); constant factors come out of sums."""
        known = self.terms[term]
        if op == "sum" and known.op == "product" and known.number != 1.0:
            bare = self._product(dict(zip(known.arguments, known.weights, strict=True)), 1.0)
            return self.multiply([(self.reduce(op, bare, sizes), 1.0)], known.number)
        return self.make(f"reduce_{op}", (term,), tuple(sorted(sizes)))

    def text(self, term: str, depth: int = 12) -> str:
        """The nested expression, cut at ``depth``; for people."""
        known = self.terms[term]
        if known.op == "constant":
            return f"{known.number:g}"
        if depth == 0 and known.arguments:
            return "…"
        inner = [self.text(argument, depth - 1) for argument in known.arguments]
        if known.op in ("sum", "product"):
            mark = "*" if known.op == "sum" else "^"
            inner = [part if weight == 1 else f"{part}{mark}{weight:g}" for part, weight in zip(inner, known.weights, strict=True)]
            if known.number != (0 if known.op == "sum" else 1):
                inner.append(f"{known.number:g}")
        return f"{known.op}({', '.join([*inner, *map(str, known.attributes)])})"

    def _keep(self, term: Term) -> str:
        content = (term.op, term.arguments, tuple(map(str, term.attributes)), tuple(map(_rounded, term.weights)), _rounded(term.number))
        digest = hashlib.blake2b(repr(content).encode(), digest_size=12).hexdigest()
        self.terms.setdefault(digest, term)
        return digest
