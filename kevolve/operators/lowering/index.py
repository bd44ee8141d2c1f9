"""Whole-number arithmetic of sizes and places: polynomials over sizes, loop variables, quotients and numbers read from memory.

Kept in one normal form, so that equal places are equal objects and what a view divides and multiplies again disappears:
``(row * cols + col) // cols`` is ``row`` wherever ``col`` runs below ``cols``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kevolve.operators.lowering.expression import Expression


@dataclass(frozen=True, slots=True)
class Size:
    """A whole number known at the call: a size of an input or an argument. ``least``: what it cannot be below."""

    name: str
    least: int = 0


@dataclass(frozen=True, eq=False)
class Axis:
    """A loop variable from 0 to ``extent - 1``. Two axes are the same only where they are one object."""

    name: str
    extent: Index

    def __repr__(self) -> str:
        return f"{self.name}<{self.extent}"


@dataclass(frozen=True, slots=True)
class Quotient:
    """``above // below``, rounded down; ``below`` is positive."""

    above: Index
    below: Index


@dataclass(frozen=True, slots=True)
class Remainder:
    """``above % below``, not negative."""

    above: Index
    below: Index


@dataclass(frozen=True, slots=True)
class Bounded:
    """The smaller or the larger of two."""

    first: Index
    second: Index
    largest: bool


@dataclass(frozen=True, eq=False)
class Read:
    """A whole number that an expression gives (an index read from memory); expressions are interned, so that the same one is one object."""

    value: Expression

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Read) and other.value is self.value

    def __hash__(self) -> int:
        return hash(id(self.value))


Atom = Size | Axis | Quotient | Remainder | Bounded | Read
Monomial = tuple[Atom, ...]


def _key(atom: Atom) -> tuple[int, str]:
    rank = (Size, Axis, Quotient, Remainder, Bounded, Read).index(type(atom))
    return rank, repr(atom) if not isinstance(atom, Axis | Read) else f"{getattr(atom, 'name', '')}{id(atom)}"


def _ordered(monomial: Iterator[Atom] | Monomial) -> Monomial:
    return tuple(sorted(monomial, key=_key))


@dataclass(frozen=True)
class Index:
    """A sum of products with whole factors. Made by ``of`` and by arithmetic."""

    terms: frozenset[tuple[Monomial, int]]

    @staticmethod
    def of(value: int | Atom | Index) -> Index:
        """A number, a size, an axis."""
        if isinstance(value, Index):
            return value
        if isinstance(value, int):
            return Index(frozenset({((), value)} if value else ()))
        return Index(frozenset({((value,), 1)}))

    @staticmethod
    def _made(terms: Mapping[Monomial, int]) -> Index:
        return Index(frozenset((monomial, factor) for monomial, factor in terms.items() if factor))

    def __add__(self, other: int | Atom | Index) -> Index:
        terms = dict(self.terms)
        for monomial, factor in Index.of(other).terms:
            terms[monomial] = terms.get(monomial, 0) + factor
        return Index._made(terms)

    def __neg__(self) -> Index:
        return Index(frozenset((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: int | Atom | Index) -> Index:
        return self + -Index.of(other)

    def __mul__(self, other: int | Atom | Index) -> Index:
        terms: dict[Monomial, int] = {}
        for monomial, factor in self.terms:
            for other_monomial, other_factor in Index.of(other).terms:
                product = _ordered((*monomial, *other_monomial))
                terms[product] = terms.get(product, 0) + factor * other_factor
        return Index._made(terms)

    __radd__ = __add__
    __rmul__ = __mul__

    def __floordiv__(self, other: int | Atom | Index) -> Index:
        return _divided(self, Index.of(other))[0]

    def __mod__(self, other: int | Atom | Index) -> Index:
        return _divided(self, Index.of(other))[1]

    @cached_property
    def number(self) -> int | None:
        """Its value where it is a plain number."""
        if not self.terms:
            return 0
        if len(self.terms) == 1:
            ((monomial, factor),) = self.terms
            return None if monomial else factor
        return None

    @cached_property
    def atoms(self) -> frozenset[Atom]:
        """The atoms that it is made of, those inside quotients too; what a ``Read`` holds is its own affair."""
        found: set[Atom] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                found.add(atom)
                for part in parts(atom):
                    found |= part.atoms
        return frozenset(found)

    @property
    def axes(self) -> frozenset[Axis]:
        """The loop variables in it, those that expressions in it use too."""
        inside = [atom.value.axes for atom in self.atoms if isinstance(atom, Read)]
        return frozenset(atom for atom in self.atoms if isinstance(atom, Axis)).union(*inside)

    def coefficient(self, axis: Axis) -> Index | None:
        """What it grows by from one ``axis`` to the next; None where that is not the same everywhere."""
        terms: dict[Monomial, int] = {}
        for monomial, factor in self.terms:
            if monomial.count(axis) > 1 or any(axis in part.axes for atom in monomial if atom is not axis for part in parts(atom)):
                return None
            if any(isinstance(atom, Read) and axis in atom.value.axes for atom in monomial):
                return None
            if axis in monomial:
                rest = list(monomial)
                rest.remove(axis)
                terms[tuple(rest)] = factor
        return Index._made(terms)

    def replaced(self, change: Callable[[Atom], Index | None]) -> Index:
        """With atoms changed (None: kept), from the outside in, and everything worked out anew."""
        result = Index.of(0)
        for monomial, factor in self.terms:
            product = Index.of(factor)
            for atom in monomial:
                changed = change(atom)
                product = product * (_rebuilt(atom, change) if changed is None else changed)
            result = result + product
        return result

    def __repr__(self) -> str:
        def shown(monomial: Monomial, factor: int) -> str:
            names = [getattr(atom, "name", None) or repr(atom) for atom in monomial]
            return "*".join([*([str(factor)] if factor != 1 or not names else []), *names])

        return " + ".join(sorted(shown(monomial, factor) for monomial, factor in self.terms)) or "0"


def parts(atom: Atom) -> tuple[Index, ...]:
    """The indices that an atom is made of."""
    if isinstance(atom, Quotient | Remainder):
        return atom.above, atom.below
    return (atom.first, atom.second) if isinstance(atom, Bounded) else ()


def _rebuilt(atom: Atom, change: Callable[[Atom], Index | None]) -> Index:
    if isinstance(atom, Quotient):
        return atom.above.replaced(change) // atom.below.replaced(change)
    if isinstance(atom, Remainder):
        return atom.above.replaced(change) % atom.below.replaced(change)
    if isinstance(atom, Bounded):
        return bounded(atom.first.replaced(change), atom.second.replaced(change), largest=atom.largest)
    return Index.of(atom)


def bounded(first: Index, second: Index, *, largest: bool) -> Index:
    """The larger or the smaller of two."""
    if first == second:
        return first
    if first.number is not None and second.number is not None:
        return Index.of((max if largest else min)(first.number, second.number))
    if is_at_least(first, second):
        return first if largest else second
    if is_at_least(second, first):
        return second if largest else first
    return Index.of(Bounded(first, second, largest))


def exactly(above: Index, below: Index) -> Index | None:
    """``above / below`` where that is a polynomial, else None."""
    if not above.terms:
        return above
    if not below.terms:
        return None
    (first, first_factor) = min(below.terms, key=lambda term: (len(term[0]), [_key(atom) for atom in term[0]], term[1]))
    for monomial, factor in above.terms:
        rest = list(monomial)
        if factor % first_factor or any(first.count(atom) > monomial.count(atom) for atom in first):
            continue
        for atom in first:
            rest.remove(atom)
        guess = Index(frozenset({(_ordered(tuple(rest)), factor // first_factor)}))
        left = above - guess * below
        if not left.terms:
            return guess
        if len(left.terms) < len(above.terms) and (more := exactly(left, below)) is not None:
            return guess + more
    return None


def _divided(above: Index, below: Index) -> tuple[Index, Index]:
    """Quotient and remainder."""
    if below.number == 0:
        raise ZeroDivisionError(f"{above} // 0")
    if above.number is not None and below.number is not None:
        return Index.of(above.number // below.number), Index.of(above.number % below.number)
    if below.number == 1:
        return above, Index.of(0)
    whole = exactly(above, below)
    if whole is not None:
        return whole, Index.of(0)
    quotient, rest = Index.of(0), Index.of(0)
    for monomial, factor in above.terms:
        term = Index(frozenset({(monomial, factor)}))
        divided = exactly(term, below)
        if divided is None and below.number is not None and abs(factor) >= below.number and factor > 0:
            divided = Index(frozenset({(monomial, factor // below.number)}))
            rest = rest + Index._made({monomial: factor % below.number})
        elif divided is None:
            rest = rest + term
            continue
        quotient = quotient + divided
    grouped, left = _by_groups(rest, below)
    quotient, rest = quotient + grouped, left
    if is_at_least(rest, Index.of(0)) and is_at_least(below - 1, rest):
        return quotient, rest
    return quotient + Index.of(Quotient(rest, below)), Index.of(Remainder(rest, below))


def _by_groups(rest: Index, below: Index) -> tuple[Index, Index]:
    """For divisors of several terms: what of an axis's whole coefficient they divide."""
    quotient = Index.of(0)
    for axis in [atom for atom in rest.atoms if isinstance(atom, Axis)]:
        coefficient = rest.coefficient(axis)
        if coefficient is not None and (divided := exactly(coefficient, below)) is not None and divided.terms:
            quotient, rest = quotient + divided * axis, rest - coefficient * axis
    return quotient, rest


def is_at_least(first: Index, second: Index) -> bool:
    """Whether ``first >= second`` for certain: by the ranges of axes, sizes and remainders."""
    difference = _lowest(first - second)
    return all(factor >= 0 for _, factor in difference.terms)


def _lowest(index: Index) -> Index:
    """A polynomial in sizes that is not above it: axes with a negative factor at their last place, the others at the first."""
    result = index
    for _ in range(8):  # an extent may hold other axes
        ranged = [atom for monomial, _ in result.terms for atom in monomial if isinstance(atom, Axis | Remainder)]
        if not ranged:
            break
        found: Axis | Remainder = ranged[0]
        kept = Index._made({monomial: factor for monomial, factor in result.terms if found not in monomial})
        last = (found.extent if isinstance(found, Axis) else found.below) - 1
        for monomial, factor in result.terms:
            if found in monomial:
                rest = list(monomial)
                rest.remove(found)
                term = Index._made({tuple(rest): factor})
                kept = kept + (term * last if factor < 0 else term * 0)
        result = kept
    least = Index.of(0)
    for monomial, factor in result.terms:  # what sizes are at the least
        number = factor
        for atom in monomial:
            number *= atom.least if isinstance(atom, Size) else 0
        least = least + (number if factor > 0 else Index._made({monomial: factor}))
    return least
