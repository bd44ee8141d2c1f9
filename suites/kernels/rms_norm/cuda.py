# rms_norm: x / sqrt(mean(x^2) + 1e-06) * weight over the last axis, in float32
# idea: short rows several a program, held in registers and read once; longer rows in two passes, the second from cache
# spec: suites/test_norms.py::test_rms_norm
# target: cuda
# parent: samples
# measured: 8192-4096-float32: 4.45x [4.41, 4.49] over eager, 7 pairs
# measured: 8192-4096-float32: 0.96x [0.95, 0.97] over compile, 7 pairs
# measured: 8192-4096-bfloat16: 12.06x [11.98, 12.15] over eager, 7 pairs
# measured: 8192-4096-bfloat16: 1.07x [1.06, 1.08] over compile, 7 pairs
# measured: 131072-256-bfloat16: 12.38x [12.29, 12.46] over eager, 7 pairs
# measured: 131072-256-bfloat16: 0.96x [0.95, 0.97] over compile, 7 pairs
# shapes: 8192-4096-float32, 8192-4096-bfloat16, 131072-256-bfloat16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

PROGRAMS = 1048576  # at most, each with a share of the rows, where a row is a step of its own
TILE = 1024  # elements a step of a program, where rows are short
LONGEST = 16384  # elements of the longest row that is held in registers
BLOCK = 4096  # elements of a step along a longer row
ELEMENTS_PER_THREAD = 16
STAGES = 1  # such rows of a program under way at once
WIDE = 4096  # elements of such a row, at least


@triton.jit(do_not_specialize=["rows", "units"])
def normalise_whole_rows(
    x, weight, out, rows, units, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, STAGES: tl.constexpr
):
    cols = units * UNIT
    row, col = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
    place = row * cols + col
    weights = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)
    for first in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        begin = tl.cast(first, tl.int64) * cols
        inside = (row < rows - first) & (col < cols)
        tile = tl.load(x + begin + place, mask=inside, other=0.0).to(tl.float32)
        scale = tl.rsqrt(tl.sum(tile * tile, axis=1, keep_dims=True) / cols + 1e-06)
        tl.store(out + begin + place, tile * scale * weights, mask=inside)


@triton.jit(do_not_specialize=["units"])
def normalise_long_row(x, weight, out, units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    cols = units * UNIT
    x += tl.program_id(0).to(tl.int64) * cols
    out += tl.program_id(0).to(tl.int64) * cols
    squares = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        part = tl.load(x + col, mask=col < cols, other=0.0).to(tl.float32)
        squares += part * part
    scale = tl.rsqrt(tl.sum(squares, axis=0) / cols + 1e-06)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        inside = col < cols
        part = tl.load(x + col, mask=inside, other=0.0).to(tl.float32)
        weights = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + col, part * scale * weights, mask=inside)


def warps(elements):
    return min(32, max(1, elements // (32 * ELEMENTS_PER_THREAD)))


def rms_norm(x, weight):
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    cols = x.shape[-1]
    rows = x.numel() // cols
    unit = 8 if cols % 8 == 0 else 1  # rows begin where 16 bytes are read at once
    width = max(64, 1 << (cols - 1).bit_length())
    if width <= LONGEST:
        height = max(1, TILE // width)
        steps = -(-rows // height)
        programs, stages = (min(PROGRAMS, steps), STAGES) if width >= WIDE else (steps, 1)
        normalise_whole_rows[(programs,)](
            x, weight, out, rows, cols // unit, unit, height, width, stages, num_warps=warps(height * width)
        )
    else:
        normalise_long_row[(rows,)](x, weight, out, cols // unit, unit, BLOCK, num_warps=warps(BLOCK))
    return out
