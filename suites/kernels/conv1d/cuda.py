# conv1d: the convolution of x with weight along the last axis, plus bias; stride 1, padded by 1; sums in float32
# idea: an implicit matrix product that reads the inputs where they lie, once for each tap
# spec: suites/test_convolutions.py::test_conv1d
# target: cuda
# parent: samples
# measured: 512-96-96-200-float16: 1.71x [1.69, 1.74] over eager, 7 pairs
# measured: 512-96-96-200-float16: 1.47x [1.46, 1.47] over compile, 7 pairs
# measured: 2048-96-96-200-float16: 1.87x [1.82, 1.93] over eager, 7 pairs
# measured: 2048-96-96-200-float16: 1.45x [1.44, 1.45] over compile, 7 pairs
# shapes: 512-96-96-200-float16, 2048-96-96-200-float16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

PADDING = 1
COLS = 128  # places of the output a program, at most
OUT_CHANNELS = 128  # channels of the output a program, at most
IN_CHANNELS = 32  # channels of the input a step, at most
WARPS = 4
STAGES = 3  # steps under way at once


@triton.jit(do_not_specialize=["rows", "cols", "out_units", "before"])
def pack(x, out, rows, cols, out_units, before, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Transpose [rows, cols] of a batch to [cols, rows], with ``before`` rows of zeros on both sides."""
    batch = tl.program_id(0).to(tl.int64)
    height = out_units * UNIT
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    from_col = col - before
    known = (row < rows) & (from_col >= 0) & (from_col < cols)
    part = tl.load(x + batch * rows * cols + row * cols + from_col, mask=known, other=0.0)
    inside = (row < rows) & (col < cols + 2 * before)
    tl.store(out + batch * (cols + 2 * before) * height + col * height + row, part, mask=inside)


@triton.jit
def inputs_of(x, channel, channels, place, length, tap, PADDING: tl.constexpr):
    """[channels, places] of one of the batch, moved along by ``tap``."""
    at = place + tap - PADDING
    return tl.load(
        x + channel[:, None] * length + at[None, :],
        mask=(channel < channels)[:, None] & ((at >= 0) & (at < length))[None, :],
        other=0.0,
    )


@triton.jit
def weights_of(weight, out_channel, out_channels, channel, channels, tap):
    """[channels of the output, of the input] of one tap."""
    return tl.load(
        weight + (tap * out_channels + out_channel)[:, None] * channels + channel[None, :],
        mask=(out_channel < out_channels)[:, None] & (channel < channels)[None, :],
        other=0.0,
    )


@triton.jit(do_not_specialize=["in_units", "out_channels", "length_units", "width_units", "col_blocks", "channel_blocks"])
def convolve(
    x, weight, bias, out, in_units, out_channels, length_units, width_units, col_blocks, channel_blocks,
    TAPS: tl.constexpr, PADDING: tl.constexpr, IN_UNIT: tl.constexpr, LENGTH_UNIT: tl.constexpr, WIDTH_UNIT: tl.constexpr,
    COLS: tl.constexpr, OUT_CHANNELS: tl.constexpr, IN_CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):
    """OUT_CHANNELS by COLS of the output of one of the batch; programs of the same inputs follow one another."""
    channels, length, width = in_units * IN_UNIT, length_units * LENGTH_UNIT, width_units * WIDTH_UNIT
    batch = (tl.program_id(0) // (col_blocks * channel_blocks)).to(tl.int64)
    out_channel = (tl.program_id(0) % channel_blocks) * OUT_CHANNELS + tl.arange(0, OUT_CHANNELS)
    place = (tl.program_id(0) // channel_blocks) % col_blocks * COLS + tl.arange(0, COLS)
    x += batch * channels * (length)
    total = tl.zeros((OUT_CHANNELS, COLS), tl.float32)
    for first in tl.range(0, channels, IN_CHANNELS, num_stages=STAGES):
        channel = first + tl.arange(0, IN_CHANNELS)
        for tap in tl.static_range(TAPS):
            factors = weights_of(weight, out_channel, out_channels, channel, channels, tap)
            total = tl.dot(factors, inputs_of(x, channel, channels, place, length, tap, PADDING), total, input_precision="ieee")
    total += tl.load(bias + out_channel, mask=out_channel < out_channels, other=0.0).to(tl.float32)[:, None]
    inside = (out_channel < out_channels)[:, None] & (place < width)[None, :]
    tl.store(out + (batch * out_channels + out_channel)[:, None] * width + place[None, :], total, mask=inside)


def block(size, most):
    """The power of two that holds ``size``, 16 at the least: what tensor cores take."""
    return min(most, max(16, 1 << (size - 1).bit_length()))


def unit(size):
    """Elements that begin at a multiple of as many: 16 bytes of 16-bit elements, where ``size`` allows it."""
    return 8 if size % 8 == 0 else 1


def transposed(matrices, before):
    """Each [rows, cols] of a batch as [cols, rows], with rows of zeros on both sides."""
    batches, rows, cols = matrices.shape
    out = matrices.new_empty((batches, cols + 2 * before, rows))
    grid = (batches, -(-(cols + 2 * before) // 64), -(-rows // 64))
    pack[grid](matrices, out, rows, cols, rows // unit(rows), before, unit(rows), 64, 64, num_warps=4)
    return out


def conv1d(x, weight, bias):
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    batches, channels, length = x.shape
    out_channels, _, taps = weight.shape
    width = length + 2 * PADDING - taps + 1
    out = x.new_empty((batches, out_channels, width))
    if out.numel() == 0:
        return out
    by_tap = weight.new_empty((taps, out_channels, channels))
    flat = out_channels * channels
    pack[(1, -(-taps // 16), -(-flat // 256))](weight, by_tap, flat, taps, flat // unit(flat), 0, unit(flat), 256, 16, num_warps=4)
    cols, outs, ins = block(width, COLS), block(out_channels, OUT_CHANNELS), block(channels, IN_CHANNELS)
    col_blocks, channel_blocks = -(-width // cols), -(-out_channels // outs)
    convolve[(batches * col_blocks * channel_blocks,)](
        x, by_tap, bias, out, channels // unit(channels), out_channels, length // unit(length),
        width // unit(width), col_blocks, channel_blocks, taps, PADDING, unit(channels), unit(length), unit(width), cols, outs, ins,
        STAGES, num_warps=WARPS,
    )
    return out
