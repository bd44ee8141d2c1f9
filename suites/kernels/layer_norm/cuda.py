# layer_norm: (x - mean) / sqrt(variance + 1e-05) * weight + bias over the last axis, in float32
# idea: short rows several a program, in registers, centred before they are squared; longer rows by Welford's recurrence in each lane
# spec: suites/test_norms.py::test_layer_norm
# target: cuda
# parent: samples
# measured: 16384-4096-bfloat16: 1.42x [1.41, 1.42] over eager, 7 pairs
# measured: 16384-4096-bfloat16: 1.28x [1.27, 1.29] over compile, 7 pairs
# measured: 262144-128-float32: 5.56x [5.54, 5.59] over eager, 7 pairs
# measured: 262144-128-float32: 0.98x [0.98, 0.99] over compile, 7 pairs
# shapes: 16384-4096-bfloat16, 262144-128-float32
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

PROGRAMS = 528  # at most, each with a share of the rows, where a row is a step of its own
TILE = 1024  # elements a step of a program, where rows are short
LONGEST = 16384  # elements of the longest row that is held in registers
BLOCK = 4096  # elements of a step along a longer row
ELEMENTS_PER_THREAD = 32
STAGES = 3  # such rows of a program under way at once
WIDE = 4096  # elements of such a row, at least


@triton.jit(do_not_specialize=["rows", "units"])
def normalise_whole_rows(x, weight, bias, out, rows, units, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, STAGES: tl.constexpr):
    cols = units * UNIT
    row, col = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
    place = row * cols + col
    weights = tl.load(weight + col, mask=col < cols, other=0.0).to(tl.float32)
    biases = tl.load(bias + col, mask=col < cols, other=0.0).to(tl.float32)
    for first in tl.range(tl.program_id(0) * ROWS, rows, tl.num_programs(0) * ROWS, num_stages=STAGES):
        begin = tl.cast(first, tl.int64) * cols
        inside = (row < rows - first) & (col < cols)
        tile = tl.load(x + begin + place, mask=inside, other=0.0).to(tl.float32)
        centred = tl.where(inside, tile - tl.sum(tile, axis=1, keep_dims=True) / cols, 0.0)
        scale = tl.rsqrt(tl.sum(centred * centred, axis=1, keep_dims=True) / cols + 1e-05)
        tl.store(out + begin + place, centred * scale * weights + biases, mask=inside)


@triton.jit(do_not_specialize=["units"])
def normalise_long_row(x, weight, bias, out, units, UNIT: tl.constexpr, BLOCK: tl.constexpr):
    cols = units * UNIT
    x += tl.program_id(0).to(tl.int64) * cols
    out += tl.program_id(0).to(tl.int64) * cols
    count = tl.zeros((BLOCK,), tl.float32)  # of each lane, so far
    means = tl.zeros((BLOCK,), tl.float32)
    squares = tl.zeros((BLOCK,), tl.float32)  # of the distances from the lane's mean
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        inside = col < cols
        part = tl.load(x + col, mask=inside, other=0.0).to(tl.float32)
        count += tl.where(inside, 1.0, 0.0)
        distance = tl.where(inside, part - means, 0.0)
        means += distance / tl.maximum(count, 1.0)
        squares += tl.where(inside, distance * (part - means), 0.0)
    mean = tl.sum(means * count, axis=0) / cols
    squares += count * (means - mean) * (means - mean)
    scale = tl.rsqrt(tl.sum(squares, axis=0) / cols + 1e-05)
    for start in range(0, cols, BLOCK):
        col = start + tl.arange(0, BLOCK)
        inside = col < cols
        part = tl.load(x + col, mask=inside, other=0.0).to(tl.float32)
        weights = tl.load(weight + col, mask=inside, other=0.0).to(tl.float32)
        biases = tl.load(bias + col, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + col, (part - mean) * scale * weights + biases, mask=inside)


def warps(elements):
    return min(32, max(1, elements // (32 * ELEMENTS_PER_THREAD)))


def layer_norm(x, weight, bias):
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
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
            x, weight, bias, out, rows, cols // unit, unit, height, width, stages, num_warps=warps(height * width)
        )
    else:
        normalise_long_row[(rows,)](x, weight, bias, out, cols // unit, unit, BLOCK, num_warps=warps(BLOCK))
    return out
