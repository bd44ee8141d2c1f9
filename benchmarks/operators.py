"""Operators with known error growth: the reference, inputs drawn at random, honest kernels and kernels that must be refused.

Kernels take the inputs and a generator. They accumulate in float32 and round once to the declared dtype, in the orders of ``orders``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.orders import LOW, ORDERS, Sum, fused

Kernel = Callable[..., torch.Tensor]
FLOATS = ("float32", "bfloat16", "float16")
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """``low``: kernels that compute in less than is declared. ``most_cheats``: runs of each, where one takes long."""

    name: str
    reference: Kernel
    inputs: Callable[[torch.Generator, torch.dtype], tuple[torch.Tensor, ...]]
    honest: Mapping[str, Kernel]
    low: Mapping[str, Kernel]  # kernels that must be refused
    dtypes: tuple[str, ...] = FLOATS
    most_cheats: int = 1000

    def cheats(self, dtype: str) -> Mapping[str, Kernel]:
        """Those that compute in less than an output of ``dtype`` declares."""
        return {name: kernel for name, kernel in self.low.items() if dtype == "float32" or not name.startswith(_NO_LESS[dtype])}


_NO_LESS = {"bfloat16": ("float16", "inputs"), "float16": ("inputs",)}  # than declared
# What must be refused in every run; of the others (one rounding of a 16-bit output hides them, or errors that average out over 10^6
# terms) the counts are given.
_ALWAYS_REFUSED = {"bfloat16 between", "bfloat16, 256 threads", "bfloat16, tree", "inputs in bfloat16", "zeros", "greatest not taken off"}


def always_refused(dtype: str, kernel: str) -> bool:
    """Whether every run of a cheat must be refused."""
    return kernel in _ALWAYS_REFUSED and (dtype == "float32" or kernel not in LOW)


def _normal(rng: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=rng)


def _scale(rng: torch.Generator, low: float, high: float) -> float:
    """Log-uniform."""
    return float(low * (high / low) ** torch.rand((), generator=rng))


# -- sums ----------------------------------------------------------------------------------------------------------------


def total(x: torch.Tensor) -> torch.Tensor:
    """Rows summed."""
    return x.sum(-1)


def summed(order: Sum) -> Kernel:
    """A sum in one order."""
    return lambda x, rng: order(x.float(), rng).to(x.dtype)


def signed_rows(cols: int, rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Terms of random sign: the sum grows as the square root."""
    return (_normal(rng, 3, cols).to(dtype),)


def positive_rows(cols: int, rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Terms of one sign, in [0, 1) times a scale that keeps the sum below float16's largest."""
    return (torch.rand(3, cols, generator=rng).mul_(min(1.0, 1e5 / cols)).to(dtype),)


def some_rows(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Sizes as a plan draws them, log-uniform."""
    rows = signed_rows if float(torch.rand((), generator=rng)) < 0.5 else positive_rows
    return rows(int(_scale(rng, 64, 4096)), rng, dtype)


# -- softmax -------------------------------------------------------------------------------------------------------------


def softmax(x: torch.Tensor) -> torch.Tensor:
    """Over rows."""
    return torch.softmax(x, -1)


def large_logits(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """An offset of 100 to 10^4 and a spread up to 100: exp overflows unless the greatest is taken off first."""
    offset, spread = _scale(rng, 1e2, 1e4), _scale(rng, 0.1, 100.0)
    return ((_normal(rng, 16, 1024) * spread + offset).to(dtype),)


def divided(order: Sum) -> Kernel:
    """The textbook's."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        terms = torch.exp(x.float() - x.float().amax(-1, keepdim=True))
        return (terms / order(terms, rng).unsqueeze(-1)).to(x.dtype)

    return made


def base_two(order: Sum) -> Kernel:
    """Powers of two and a reciprocal, as GPU kernels have it."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        terms = torch.exp2((x.float() - x.float().amax(-1, keepdim=True)) * 1.4426950408889634)
        return (terms * order(terms, rng).reciprocal().unsqueeze(-1)).to(x.dtype)

    return made


def by_logarithm(order: Sum) -> Kernel:
    """exp(x - log of the sum)."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        shifted = x.float() - x.float().amax(-1, keepdim=True)
        return torch.exp(shifted - order(shifted.exp(), rng).log().unsqueeze(-1)).to(x.dtype)

    return made


def online(x: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """Block by block, the sum so far rescaled where a greater element comes."""
    most, held = torch.full((len(x), 1), -torch.inf), torch.zeros(len(x), 1)
    for part in x.float().split(64, -1):
        new = torch.maximum(most, part.amax(-1, keepdim=True))
        held, most = held * torch.exp(most - new) + torch.exp(part - new).sum(-1, keepdim=True), new
    return (torch.exp(x.float() - most) / held).to(x.dtype)


def unshifted(x: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """The greatest not taken off: it overflows."""
    terms = x.float().exp()
    return (terms / terms.sum(-1, keepdim=True)).to(x.dtype)


# -- matrix products -----------------------------------------------------------------------------------------------------


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Of a and the transposed b."""
    return a @ b.T


def matrices(depth: int, rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Two of 8 rows."""
    return _normal(rng, 8, depth).to(dtype), _normal(rng, 8, depth).to(dtype)


def multiplied(order: Sum) -> Kernel:
    """Every product rounded to float32, then a sum in one order: no fused multiply-add."""
    return lambda a, b, rng: order(a.float()[:, None] * b.float()[None], rng).to(a.dtype)


def with_fused(a: torch.Tensor, b: torch.Tensor, _: torch.Generator) -> torch.Tensor:
    """Fused multiply-adds."""
    return fused(a.float()[:, None].expand(-1, len(b), -1), b.float()[None].expand(len(a), -1, -1)).to(a.dtype)


def narrowed(dtype: torch.dtype) -> Kernel:
    """The inputs rounded to ``dtype``, accumulated in float32: what tensor cores tempt to."""
    return lambda a, b, _: (a.to(dtype).float() @ b.to(dtype).float().T).to(a.dtype)


# -- cancellation --------------------------------------------------------------------------------------------------------


def difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Of two sums."""
    return x.sum(-1) - y.sum(-1)


def nearly_equal(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """The same terms in another order, moved by 1 to 10^-2 of their size: up to 5,000 cancel to 1."""
    x = _normal(rng, 16, 2048) + 1
    y = x[:, torch.randperm(2048, generator=rng)]
    return x.to(dtype), (y + _normal(rng, 16, 2048) * _scale(rng, 1e-2, 1.0)).to(dtype)


def two_sums(order: Sum) -> Kernel:
    """As the reference, in one order."""
    return lambda x, y, rng: (order(x.float(), rng) - order(y.float(), rng)).to(x.dtype)


def one_sum(order: Sum) -> Kernel:
    """The differences summed: better than the reference."""
    return lambda x, y, rng: order(x.float() - y.float(), rng).to(x.dtype)


def variance(x: torch.Tensor) -> torch.Tensor:
    """The mean square less the squared mean, which cancels."""
    return (x * x).mean(-1) - x.mean(-1) ** 2


def far_from_zero(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """A mean of 1 to 1000 deviations."""
    return ((_normal(rng, 16, 1024) + _scale(rng, 1.0, 1e3)).to(dtype),)


def one_pass(order: Sum) -> Kernel:
    """As the reference, in one order."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        wide = x.float()
        return (order(wide * wide, rng) / x.shape[-1] - (order(wide, rng) / x.shape[-1]) ** 2).to(x.dtype)

    return made


def two_pass(order: Sum) -> Kernel:
    """The mean first: no cancellation."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        wide = x.float()
        centred = wide - (order(wide, rng) / x.shape[-1]).unsqueeze(-1)
        return (order(centred * centred, rng) / x.shape[-1]).to(x.dtype)

    return made


# -- overflow in the reference -------------------------------------------------------------------------------------------


def half_norm(x: torch.Tensor) -> torch.Tensor:
    """A root mean square norm computed in the inputs' own dtype: float16 squares overflow beyond 256."""
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + _EPSILON)


def up_to_overflow(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Elements of 1 to 1000."""
    return ((_normal(rng, 16, 512) * _scale(rng, 1.0, 1e3)).to(dtype),)


def normed(order: Sum) -> Kernel:
    """In float32, which does not overflow."""

    def made(x: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        wide = x.float()
        return (wide * torch.rsqrt(order(wide * wide, rng) / x.shape[-1] + _EPSILON).unsqueeze(-1)).to(x.dtype)

    return made


def two_products(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """A product, its rows scaled to a root mean square of one, and another. In float16 the first overflows."""
    return _to_unit(_to_unit(x @ first) @ second)


def _to_unit(x: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    return (wide * torch.rsqrt((wide * wide).mean(-1, keepdim=True) + _EPSILON)).to(x.dtype)


def large_matrices(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Elements of the first product from a twentieth of float16's largest to four times as much."""
    depth, scale = int(_scale(rng, 32, 512)), _scale(rng, 3e3, 3e5)
    shapes = ((16, depth), (depth, 48), (48, depth))
    return tuple((_normal(rng, *shape) * (scale / depth**0.5) ** 0.5).to(dtype) for shape in shapes)


def layered(order: Sum, between: torch.dtype | None) -> Kernel:
    """Sums in float32, in an order; what stands between the products rounded to ``between`` (None: to the declared dtype)."""

    def made(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
        hidden = _to_unit(order(x.float()[:, None] * first.float().T, rng)).to(between or x.dtype).float()
        return _to_unit(order(hidden[:, None] * second.float().T, rng)).to(x.dtype)

    return made


def zeros(x: torch.Tensor, *_: object) -> torch.Tensor:
    """What the reference itself gives once it overflows."""
    return torch.zeros_like(x)


def zero_rows(x: torch.Tensor, *_: object) -> torch.Tensor:
    """Nothing computed."""
    return torch.zeros_like(x[..., 0])


def zeros_like_product(x: torch.Tensor, first: torch.Tensor, second: torch.Tensor, *_: object) -> torch.Tensor:
    """Nothing computed."""
    return torch.zeros(len(x), second.shape[-1], dtype=x.dtype)


def beyond(rng: torch.Generator, dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
    """Sums on both sides of float16's largest."""
    return (torch.rand(16, 2048, generator=rng).mul_(_scale(rng, 10.0, 200.0)).to(dtype),)


def _each(make: Callable[[Sum], Kernel], sums: Mapping[str, Sum], prefix: str = "") -> dict[str, Kernel]:
    return {prefix + name: make(one) for name, one in sums.items()}


def _products(depth: int) -> Operator:
    narrow = {f"inputs in {name}": narrowed(getattr(torch, name)) for name in ("bfloat16", "float16")}
    return Operator(
        name=f"matrix product, K = {depth}",
        reference=product,
        inputs=functools.partial(matrices, depth),
        honest={**_each(multiplied, ORDERS), "fused multiply-add": with_fused},
        low=_each(multiplied, LOW) | narrow,
        most_cheats=10 if depth > 10_000 else 1000,
    )


_SOFTMAX = _each(divided, ORDERS) | _each(base_two, ORDERS, "base 2, ") | _each(by_logarithm, ORDERS, "logarithm, ") | {"online": online}
_LAYERED = _each(functools.partial(layered, between=None), ORDERS) | _each(
    functools.partial(layered, between=torch.float32), ORDERS, "float32 between, "
)
_ALL = (
    Operator(
        name="sum of 10^6, random signs",
        reference=total,
        inputs=functools.partial(signed_rows, 10**6),
        honest=_each(summed, ORDERS),
        low=_each(summed, LOW),
        most_cheats=10,
    ),
    Operator(
        name="sum of 10^6, one sign",
        reference=total,
        inputs=functools.partial(positive_rows, 10**6),
        honest=_each(summed, ORDERS),
        low=_each(summed, LOW),
        most_cheats=10,
    ),
    Operator(
        name="sum of 64 to 4096, either",
        reference=total,
        inputs=some_rows,
        honest=_each(summed, ORDERS),
        low=_each(summed, LOW),
    ),
    Operator(
        name="softmax of large logits",
        reference=softmax,
        inputs=large_logits,
        honest=_SOFTMAX,
        low=_each(divided, LOW) | {"greatest not taken off": unshifted},
    ),
    *(_products(depth) for depth in (64, 1024, 8192, 65536)),
    Operator(
        name="difference of two sums",
        reference=difference,
        inputs=nearly_equal,
        honest=_each(two_sums, ORDERS) | _each(one_sum, ORDERS, "differences, "),
        low=_each(two_sums, LOW) | {"zeros": zero_rows},
        dtypes=("float32",),
    ),
    Operator(
        name="variance in one pass",
        reference=variance,
        inputs=far_from_zero,
        honest=_each(one_pass, ORDERS) | _each(two_pass, ORDERS, "two passes, "),
        low=_each(one_pass, LOW) | {"zeros": zero_rows},
        dtypes=("float32",),
    ),
    Operator(
        name="norm whose reference overflows",
        reference=half_norm,
        inputs=up_to_overflow,
        honest=_each(normed, ORDERS),
        low={"zeros": zeros},
        dtypes=("float16",),
    ),
    Operator(
        name="two products, the first beyond the largest",
        reference=two_products,
        inputs=large_matrices,
        honest=_LAYERED,
        low={"bfloat16 between": layered(ORDERS["pairwise"], torch.bfloat16), "zeros": zeros_like_product},
        dtypes=("float16",),
    ),
    Operator(
        name="sum beyond the largest",
        reference=total,
        inputs=beyond,
        honest=_each(summed, ORDERS),
        low={"zeros": zero_rows},
        dtypes=("float16",),
    ),
)
OPERATORS: Mapping[str, Operator] = {operator.name: operator for operator in _ALL}
