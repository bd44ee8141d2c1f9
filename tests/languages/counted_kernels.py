"""Four kernels that have between them every class of instructions that is counted; compiled where nothing runs them."""

from __future__ import annotations

import os
from typing import Any

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")

import triton
import triton.language as tl


@triton.jit
def scaled(x, out, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < n, other=0.0)
    tl.store(out + at, value * tl.sum(value), mask=at < n)


@triton.jit
def doubled(x, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    value = tl.load(x + at).to(tl.float64)
    tl.store(out + at, (value * value + value).to(out.dtype.element_ty))


@triton.jit
def added(x, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.atomic_add(out + at % 7, tl.load(x + at))


@triton.jit
def multiplied(a, b, c, BLOCK: tl.constexpr):
    row, col = tl.arange(0, BLOCK)[:, None], tl.arange(0, BLOCK)[None, :]
    product = tl.dot(tl.load(a + row * BLOCK + col), tl.load(b + row * BLOCK + col))
    tl.store(c + row * BLOCK + col, product.to(c.dtype.element_ty))


def compile_all(arch: int | str) -> dict[str, Any]:
    """By kernel's name: a cubin, or for AMD the assembler text."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    amd = isinstance(arch, str)
    target = GPUTarget("hip", arch, 64) if amd else GPUTarget("cuda", arch, 32)
    pointers = {"scaled": "x out", "doubled": "x out", "added": "x out", "multiplied": "a b c"}
    found = {}
    for kernel in (scaled, doubled, added, multiplied):
        names = pointers[kernel.__name__].split()
        kind = "*fp16" if kernel.__name__ == "multiplied" else "*i32" if kernel.__name__ == "added" else "*bf16"
        signature = dict.fromkeys(names, kind) | ({"n": "i32"} if kernel is scaled else {}) | {"BLOCK": "constexpr"}
        aligned = {(number,): [["tt.divisibility", 16]] for number in range(len(signature) - 1)}
        block = 64 if kernel.__name__ == "multiplied" else 2048 if amd else 1024
        made = triton.compile(ASTSource(kernel, signature, {"BLOCK": block}, aligned), target=target)
        found[kernel.__name__] = made.asm["amdgcn" if amd else "cubin"]
    return found
