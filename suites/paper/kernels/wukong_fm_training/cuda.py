# wukong_fm_training: x @ (x^T @ y) for each of a batch, sums in float32
# idea: X X^T once a program, in float32, then its product with slices of Y: no matrix is written between
# spec: suites/paper/test_paper_recommendation.py::test_wukong_fm_training
# target: cuda
# parent: samples
# measured: 256-24-224-2198-float16: 6.51x [6.38, 6.64] over eager, 7 pairs
# measured: 256-24-224-2198-float16: 5.97x [5.91, 6.04] over compile, 7 pairs
# measured: 1024-24-224-2198-float16: 8.07x [7.93, 8.22] over eager, 7 pairs
# measured: 1024-24-224-2198-float16: 7.96x [7.95, 7.98] over compile, 7 pairs
# measured: 1024-40-224-448-float16: 4.72x [4.49, 4.96] over eager, 7 pairs
# measured: 1024-40-224-448-float16: 4.54x [4.52, 4.55] over compile, 7 pairs
# measured: 1024-48-224-448-float16: 4.38x [3.92, 4.89] over eager, 7 pairs
# measured: 1024-48-224-448-float16: 4.27x [4.27, 4.28] over compile, 7 pairs
# shapes: 256-24-224-2198-float16, 1024-24-224-2198-float16, 1024-40-224-448-float16, 1024-48-224-448-float16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

ROWS = 64  # rows of X a program, at most
COLS = 64  # columns of Y a step, at most
DEPTH = 64  # columns of X a step of a sum, at most
SPAN = 16  # steps of a program, at most
WARPS = 4
STAGES = 3  # steps under way at once


@triton.jit
def rows_of(matrix, row, rows, col, cols):
    """Elements of a matrix, row by row; zeros outside."""
    return tl.load(matrix + row[:, None] * cols + col[None, :], mask=(row < rows)[:, None] & (col < cols)[None, :], other=0.0)


@triton.jit
def power_of_two(scale):
    """The greatest power of two that is not above ``scale``: to divide by it rounds nothing, and keeps 16-bit factors from overflowing."""
    power = (scale.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
    return tl.minimum(tl.maximum(power, 1.1754943508222875e-38), 8.507059173023462e37)


@triton.jit
def two_terms(values, scale, like):
    """Two values whose sum is ``values``, in the type of ``like``, and the powers of two near ``scale`` by which they were divided.

    One 16-bit term would not do: what a product of X with itself multiplies may cancel, and its rounding with it does not.
    """
    power = power_of_two(scale)
    values /= power
    high = values.to(like.dtype.element_ty)
    return high, (values - high.to(tl.float32)).to(like.dtype.element_ty), power


@triton.jit
def gram(x, row, rows, dim, ROWS: tl.constexpr, DEPTH: tl.constexpr, STAGES: tl.constexpr):
    """X X^T."""
    total = tl.zeros((ROWS, ROWS), tl.float32)
    for first in tl.range(0, dim, DEPTH, num_stages=STAGES):
        values = rows_of(x, row, rows, first + tl.arange(0, DEPTH), dim)
        total = tl.dot(values, tl.trans(values), total, input_precision="ieee")
    return total


@triton.jit
def product(high, low, values):
    """A sum of two terms times values."""
    total = tl.dot(high, values, input_precision="ieee")
    if high.dtype != tl.float32:
        total = tl.dot(low, values, total)
    return total


@triton.jit
def by_interactions(
    x, z, y, row, rows, col, cols, dim,
    SAME: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WHOLE: tl.constexpr, STAGES: tl.constexpr,
):
    """Rows of X (Z^T Y) for some columns of Y: slices of Z^T Y stay in registers. SAME: Z is X."""
    total = tl.zeros((ROWS, COLS), tl.float32)
    if WHOLE:
        values = rows_of(y, row, rows, col, cols)
    for start in tl.range(0, dim, DEPTH, num_stages=STAGES):
        middle = start + tl.arange(0, DEPTH)
        mine = rows_of(x, row, rows, middle, dim)
        if WHOLE:
            part = tl.dot(tl.trans(mine if SAME else rows_of(z, row, rows, middle, dim)), values, input_precision="ieee")
        else:
            part = tl.zeros((DEPTH, COLS), tl.float32)
            for place in range(0, rows, ROWS):
                other = place + tl.arange(0, ROWS)
                theirs, values = rows_of(z, other, rows, middle, dim), rows_of(y, other, rows, col, cols)
                part = tl.dot(tl.trans(theirs), values, part, input_precision="ieee")
        if mine.dtype == tl.float32:
            total = tl.dot(mine, part, total, input_precision="ieee")
        else:
            high, low, power = two_terms(part, tl.max(tl.abs(part), axis=0)[None, :], x)
            total += tl.dot(mine, low, tl.dot(mine, high)) * power
    return total


@triton.jit(do_not_specialize=["rows", "units", "col_units", "tiles", "spans", "span"])
def multiply(
    x, y, out, rows, units, col_units, tiles, spans, span,
    UNIT: tl.constexpr, COL_UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr,
    WHOLE: tl.constexpr, STAGES: tl.constexpr,
):
    """One tile of rows and ``span`` slices of the columns of one of the batch. WHOLE: one tile holds all rows."""
    dim, cols = units * UNIT, col_units * COL_UNIT
    batch = (tl.program_id(0) // (tiles * spans)).to(tl.int64)
    x += batch * rows * dim
    y += batch * rows * cols
    out += batch * rows * cols
    row = (tl.program_id(0) // spans) % tiles * ROWS + tl.arange(0, ROWS)
    begin = (tl.program_id(0) % spans) * span * COLS
    end = tl.minimum(begin + span * COLS, cols)
    # Where rows do not fit one tile X X^T is no longer small.
    if WHOLE:
        matrix = gram(x, row, rows, dim, ROWS, DEPTH, STAGES)
        high, low, power = two_terms(matrix, tl.max(tl.abs(matrix), axis=1)[:, None], x)
        for first in tl.range(begin, end, COLS, num_stages=STAGES):
            col = first + tl.arange(0, COLS)
            total = product(high, low, rows_of(y, row, rows, col, cols)) * power
            tl.store(out + row[:, None] * cols + col[None, :], total, mask=(row < rows)[:, None] & (col < cols)[None, :])
    else:
        for first in range(begin, end, COLS):
            col = first + tl.arange(0, COLS)
            total = by_interactions(x, x, y, row, rows, col, cols, dim, True, ROWS, COLS, DEPTH, WHOLE, STAGES)
            tl.store(out + row[:, None] * cols + col[None, :], total, mask=(row < rows)[:, None] & (col < cols)[None, :])


@triton.jit(do_not_specialize=["rows", "units", "col_units", "tiles"])
def multiply_slopes(
    slope, x, y, out, rows, units, col_units, tiles,
    UNIT: tl.constexpr, COL_UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr,
    WHOLE: tl.constexpr, STAGES: tl.constexpr,
):
    """The gradient of X, (D Y^T + Y D^T) X where D is the result's: one tile of rows of one of the batch."""
    dim, cols = units * UNIT, col_units * COL_UNIT
    batch = (tl.program_id(0) // tiles).to(tl.int64)
    slope += batch * rows * cols
    y += batch * rows * cols
    x += batch * rows * dim
    out += batch * rows * dim
    row = tl.program_id(0) % tiles * ROWS + tl.arange(0, ROWS)
    if WHOLE:
        matrix = tl.zeros((ROWS, ROWS), tl.float32)
        for first in tl.range(0, cols, DEPTH, num_stages=STAGES):
            at = first + tl.arange(0, DEPTH)
            matrix = tl.dot(rows_of(slope, row, rows, at, cols), tl.trans(rows_of(y, row, rows, at, cols)), matrix, input_precision="ieee")
        matrix += tl.trans(matrix)
        high, low, power = two_terms(matrix, tl.max(tl.abs(matrix), axis=1)[:, None], x)
        for first in range(0, dim, COLS):
            col = first + tl.arange(0, COLS)
            total = product(high, low, rows_of(x, row, rows, col, dim)) * power
            tl.store(out + row[:, None] * dim + col[None, :], total, mask=(row < rows)[:, None] & (col < dim)[None, :])
    else:
        for first in range(0, dim, COLS):
            col = first + tl.arange(0, COLS)
            total = by_interactions(slope, y, x, row, rows, col, dim, cols, False, ROWS, COLS, DEPTH, WHOLE, STAGES)
            total += by_interactions(y, slope, x, row, rows, col, dim, cols, False, ROWS, COLS, DEPTH, WHOLE, STAGES)
            tl.store(out + row[:, None] * dim + col[None, :], total, mask=(row < rows)[:, None] & (col < dim)[None, :])


def block(size, most):
    """The power of two that holds ``size``, 16 at the least: what tensor cores take."""
    return min(most, max(16, 1 << (size - 1).bit_length()))


def units_of(dim, cols):
    """How many elements of a row there surely are side by side: rows begin where 16 bytes are read at once."""
    return 8 if dim % 8 == 0 else 1, 8 if cols % 8 == 0 else 1


def times_gram(x, y):
    """X X^T Y of contiguous X and Y."""
    batches, rows, dim = x.shape
    cols = y.shape[2]
    out = torch.empty_like(y)
    if out.numel() == 0:
        return out
    unit, col_unit = units_of(dim, cols)
    height, width, depth = block(rows, ROWS), block(cols, COLS), block(dim, DEPTH)
    tiles = -(-rows // height)
    if tiles > 1:  # Triton 3.6 compiles a product of fewer columns in a loop over tiles to wrong shared memory addresses (sm_90)
        width = max(64, width)
    steps = -(-cols // width)
    span = min(SPAN, steps)
    spans = -(-steps // span)
    multiply[(batches * tiles * spans,)](
        x, y, out, rows, dim // unit, cols // col_unit, tiles, spans, span,
        unit, col_unit, height, width, depth, tiles == 1, STAGES, num_warps=WARPS,
    )
    return out


def wukong_fm_training(x, y):
    return times_gram(x.contiguous(), y.contiguous())


def wukong_fm_training_backward(slope, x, y):
    slope, x, y = slope.contiguous(), x.contiguous(), y.contiguous()
    batches, rows, dim = x.shape
    cols = y.shape[2]
    out = torch.empty_like(x)
    if out.numel():
        unit, col_unit = units_of(dim, cols)
        height, width, depth = block(rows, ROWS), block(dim, COLS), block(cols, DEPTH)
        tiles = -(-rows // height)
        width = max(64, width) if tiles > 1 else width  # see times_gram
        multiply_slopes[(batches * tiles,)](
            slope, x, y, out, rows, dim // unit, cols // col_unit, tiles,
            unit, col_unit, height, width, depth, tiles == 1, STAGES, num_warps=WARPS,
        )
    return out, times_gram(x, slope)
