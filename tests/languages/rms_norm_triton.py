"""A kernel for the tests: one row a program."""

import torch
import triton
import triton.language as tl


@triton.jit
def normalise(x, weight, out, cols, epsilon, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    row = tl.program_id(0).to(tl.int64) * cols
    value = tl.load(x + row + at, mask=at < cols, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, axis=0) / cols + epsilon)
    factor = tl.load(weight + at, mask=at < cols, other=0.0).to(tl.float32)
    tl.store(out + row + at, (value * scale * factor).to(out.dtype.element_ty), mask=at < cols)


def rms_norm(x, weight):
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if out.numel():
        normalise[(x.shape[0],)](x, weight, out, x.shape[1], 1e-6, BLOCK=triton.next_power_of_2(x.shape[1]), num_warps=4)
    return out
