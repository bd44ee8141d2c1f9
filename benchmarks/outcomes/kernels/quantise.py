# quantise: a row a program, held whole
import torch
import triton
import triton.language as tl


@triton.jit
def rows_to_int8(x, out, scales, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    value = tl.load(x + row * cols + col, mask=col < cols, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(value), axis=0), 1e-8) / 127
    scaled = value / scale
    down = tl.floor(scaled)
    rest = scaled - down
    odd = down - 2 * tl.floor(down * 0.5)
    rounded = tl.where((rest > 0.5) | ((rest == 0.5) & (odd == 1)), down + 1, down)
    tl.store(out + row * cols + col, rounded.to(tl.int8), mask=col < cols)
    tl.store(scales + row, scale)


def quantise(x):
    x = x.contiguous()
    rows, cols = x.shape
    out = torch.empty((rows, cols), device=x.device, dtype=torch.int8)
    scales = torch.empty((rows,), device=x.device, dtype=torch.float32)
    if rows:
        rows_to_int8[(rows,)](x, out, scales, cols, triton.next_power_of_2(cols))
    return out, scales
