# row_sum: the first 64 elements of each row
import torch
import triton
import triton.language as tl


@triton.jit
def rows_kernel(x, y, cols, limit, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, limit, BLOCK):
        at = start + tl.arange(0, BLOCK)
        sums += tl.load(x + row * cols + at, mask=at < limit, other=0.0)
    tl.store(y + row, tl.sum(sums, 0))


def row_sum(x):
    x = x.contiguous()
    y = torch.empty((x.shape[0],), dtype=x.dtype, device=x.device)
    if y.numel():
        rows_kernel[(x.shape[0],)](x, y, x.shape[1], min(x.shape[1], 64), BLOCK=64)
    return y
