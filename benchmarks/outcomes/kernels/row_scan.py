# row_scan: a row a program, in blocks, the sum so far carried along
import torch
import triton
import triton.language as tl

BLOCK = 1024


@triton.jit
def scan(x, out, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    carried = tl.zeros((1,), tl.float32)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        part = tl.load(x + row * cols + col, mask=col < cols, other=0.0).to(tl.float32)
        tl.store(out + row * cols + col, tl.cumsum(part, axis=0) + carried, mask=col < cols)
        carried += tl.sum(part, axis=0)


def row_scan(x):
    x = x.contiguous()
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    rows, cols = x.shape
    scan[(rows,)](x, out, cols, BLOCK)
    return out
