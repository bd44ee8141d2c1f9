# fm: x (x^T y), one batch a program, the small factor held whole
import torch
import triton
import triton.language as tl

BLOCK_K, BLOCK_D, WARPS = 64, 32, 4


@triton.jit
def interact(x, y, out, n, d, k, N: tl.constexpr, BD: tl.constexpr, BK: tl.constexpr):
    batch = tl.program_id(0).to(tl.int64)
    row, col = tl.arange(0, N), tl.program_id(1) * BK + tl.arange(0, BK)
    held = tl.load(y + batch * n * k + row[:, None] * k + col[None, :], mask=(row < n)[:, None] & (col < k)[None, :], other=0.0)
    total = tl.zeros((N, BK), tl.float32)
    for start in range(0, d, BD):
        along = start + tl.arange(0, BD)
        left = tl.load(x + batch * n * d + row[:, None] * d + along[None, :], mask=(row < n)[:, None] & (along < d)[None, :], other=0.0)
        inner = tl.dot(tl.trans(left), held, input_precision="ieee").to(held.dtype)
        total = tl.dot(left, inner, total, input_precision="ieee")
    tl.store(out + batch * n * k + row[:, None] * k + col[None, :], total, mask=(row < n)[:, None] & (col < k)[None, :])


def fm(x, y):
    x, y = x.contiguous(), y.contiguous()
    batch, n, d = x.shape
    k = y.shape[2]
    out = torch.empty((batch, n, k), device=x.device, dtype=x.dtype)
    if out.numel() == 0:
        return out
    interact[(batch, triton.cdiv(k, BLOCK_K))](
        x, y, out, n, d, k, max(16, triton.next_power_of_2(n)), BLOCK_D, BLOCK_K, num_warps=WARPS
    )
    return out
