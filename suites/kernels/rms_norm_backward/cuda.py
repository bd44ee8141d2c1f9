# rms_norm_backward: the gradients of RMSNorm over the last axis for x and weight, given dy, in float32
# idea: persistent programs keep a share of dweight in registers as rows stream by once; a second kernel adds the shares; no atomics
# spec: suites/test_norms.py::test_rms_norm_backward
# target: cuda
# parent: samples
# measured: 8192-4096-bfloat16: 20.12x [20.03, 20.21] over eager, 7 pairs
# measured: 8192-4096-bfloat16: 1.90x [1.89, 1.91] over compile, 7 pairs
# measured: 131072-256-bfloat16: 17.74x [17.68, 17.81] over eager, 7 pairs
# measured: 131072-256-bfloat16: 1.42x [1.41, 1.43] over compile, 7 pairs
# shapes: 8192-4096-bfloat16, 131072-256-bfloat16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

PROGRAMS = 264  # at most, each with a share of the rows
TILE = 4096  # elements a step of a program, where rows are short
LONGEST = 8192  # elements of the longest row that is held in registers
BLOCK = 1024  # elements of a step along a longer row
ELEMENTS_PER_THREAD = 16
STAGES = 3  # rows of a program under way at once, where a row is a step
ADD_COLS = 32  # columns a program that adds the shares


@triton.jit
def power_of_two(scale):
    """The greatest power of two that is not above ``scale``: to multiply by it rounds nothing, and keeps products from overflowing."""
    power = (scale.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.maximum(power, 1.1754943508222875e-38)


@triton.jit(do_not_specialize=["rows", "units"])
def whole_rows(
    dy, x, weight, dx, shares, rows, units, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, STAGES: tl.constexpr
):
    """Write dx, and the sum of dy * x * scale over this program's rows to its row of ``shares``."""
    cols = units * UNIT
    row, col = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
    place = row * cols + col
    weights = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)
    share = tl.zeros((ROWS, COLS), tl.float32)
    for first in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        inside = (row < rows - first) & (col < cols)
        begin = tl.cast(first, tl.int64) * cols
        out_gradient = tl.load(dy + begin + place, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        tile = tl.load(x + begin + place, mask=inside, other=0.0, eviction_policy="evict_first").to(tl.float32)
        squares = tl.sum(tile * tile, axis=1, keep_dims=True) + cols * 1e-06
        scale = tl.rsqrt(squares / cols)
        gradient = out_gradient * weights
        # The difference may cancel: before it stand one division and one product that round, no more.
        power = power_of_two(scale)
        along = tl.sum(gradient * (tile * power), axis=1, keep_dims=True) / (squares * power * power)
        tl.store(dx + begin + place, scale * (gradient - tile * power * along), mask=inside, eviction_policy="evict_first")
        share += out_gradient * (tile * scale)
    share_col = tl.arange(0, COLS)
    tl.store(shares + tl.program_id(0).to(tl.int64) * cols + share_col, tl.sum(share, axis=0), mask=share_col < cols)


@triton.jit(do_not_specialize=["units"])
def row_sums(dy, x, weight, scales, alongs, units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """The scale of one long row, and how much of dy * weight lies along x."""
    cols = units * UNIT
    row = tl.program_id(0).to(tl.int64)
    dy += row * cols
    x += row * cols
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        part = tl.load(x + col, mask=col < cols, other=0.0).to(tl.float32)
        sums += part * part
    squares = tl.sum(sums, axis=0) + cols * 1e-06
    scale = tl.rsqrt(squares / cols)
    power = power_of_two(scale)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        inside = col < cols
        out_gradient = tl.load(dy + col, mask=inside, other=0.0).to(tl.float32)
        part = tl.load(x + col, mask=inside, other=0.0).to(tl.float32)
        weights = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
        sums += out_gradient * weights * (part * power)
    tl.store(scales + row, scale)
    tl.store(alongs + row, tl.sum(sums, axis=0) / (squares * power * power))


@triton.jit(do_not_specialize=["rows", "units"])
def long_columns(dy, x, weight, scales, alongs, dx, shares, rows, units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    """Write dx in BLOCK columns of this program's share of the rows, and their part of its row of ``shares``."""
    cols = units * UNIT
    blocks = tl.cdiv(cols, BLOCK)
    group = tl.program_id(0) // blocks
    col = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    inside = col < cols
    weights = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
    share = tl.zeros((BLOCK,), tl.float32)
    for index in range(group, rows, tl.num_programs(0) // blocks):
        row = tl.cast(index, tl.int64)
        scale = tl.load(scales + row)
        out_gradient = tl.load(dy + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        part = tl.load(x + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        gradient = out_gradient * weights
        tl.store(dx + row * cols + col, scale * (gradient - part * power_of_two(scale) * tl.load(alongs + row)), mask=inside)
        share += out_gradient * (part * scale)
    tl.store(shares + group.to(tl.int64) * cols + col, share, mask=inside)


@triton.jit(do_not_specialize=["programs", "cols"])
def add_shares(shares, dweight, programs, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)[None, :]
    total = tl.zeros((ROWS, COLS), tl.float32)
    for first in range(0, programs, ROWS):
        row = first + tl.arange(0, ROWS)[:, None].to(tl.int64)
        total += tl.load(shares + row * cols + col, mask=(row < programs) & (col < cols), other=0.0)
    out_col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    tl.store(dweight + out_col, tl.sum(total, axis=0), mask=out_col < cols)


def warps(elements):
    return min(32, max(1, elements // (32 * ELEMENTS_PER_THREAD)))


def long_rows(dy, x, weight, dx, rows, cols, unit):
    """The shares of dweight, where rows are too long to be held."""
    blocks = triton.cdiv(cols, BLOCK)
    programs = min(triton.cdiv(PROGRAMS, blocks), rows)
    shares = x.new_empty((programs, cols), dtype=torch.float32)
    scales = x.new_empty((rows,), dtype=torch.float32)
    alongs = x.new_empty((rows,), dtype=torch.float32)
    row_sums[(rows,)](dy, x, weight, scales, alongs, cols // unit, unit, BLOCK, num_warps=warps(BLOCK))
    long_columns[(programs * blocks,)](
        dy, x, weight, scales, alongs, dx, shares, rows, cols // unit, unit, BLOCK, num_warps=warps(BLOCK)
    )
    return shares


def rms_norm_backward(dy, x, weight):
    dy, x, weight = dy.contiguous(), x.contiguous(), weight.contiguous()
    rows, cols = x.shape
    dx = torch.empty_like(x)
    if cols == 0:
        return dx, torch.empty_like(weight)
    unit = 8 if cols % 8 == 0 else 1  # rows begin where 16 bytes are read at once
    width = max(64, 1 << (cols - 1).bit_length())
    if width <= LONGEST or rows == 0:
        height = max(1, TILE // width)
        programs = min(PROGRAMS, -(-rows // height))
        shares = x.new_empty((programs, cols), dtype=torch.float32)
        stages = STAGES if height == 1 else 1
        if rows > 0:
            whole_rows[(programs,)](
                dy, x, weight, dx, shares, rows, cols // unit, unit, height, width, stages, num_warps=warps(height * width)
            )
    else:
        shares = long_rows(dy, x, weight, dx, rows, cols, unit)
    dweight = torch.empty_like(weight)
    add_shares[(-(-cols // ADD_COLS),)](shares, dweight, shares.shape[0], cols, 64, ADD_COLS, num_warps=8)
    return dx, dweight
