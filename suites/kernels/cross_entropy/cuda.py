# cross_entropy: the mean over rows of logsumexp(logits) - logits[target], and its gradient for logits, in float32
# idea: one pass with a maximum and a sum of each thread's own, nothing of the logits' size is stored; the gradient recomputes both, then reads the row from cache
# spec: suites/test_softmaxes.py::test_cross_entropy
# target: cuda
# parent: samples
# measured: 4096-32000-bfloat16: 6.25x [6.22, 6.29] over eager, 7 pairs
# measured: 4096-32000-bfloat16: 1.38x [1.38, 1.38] over compile, 7 pairs
# measured: 2048-128256-bfloat16: 6.44x [6.38, 6.50] over eager, 7 pairs
# measured: 2048-128256-bfloat16: 1.30x [1.30, 1.30] over compile, 7 pairs
# shapes: 4096-32000-bfloat16, 2048-128256-bfloat16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

BLOCK = 4096  # elements a program reads at once: of one row, or of several short ones
WARPS = 8
STAGES = 1  # steps under way at once
MEAN_BLOCK = 4096  # rows of a step of the mean


@triton.jit
def columns(start, BLOCK: tl.constexpr):
    """BLOCK columns from ``start`` on, in groups of eight that lie in one thread, as a step of every row."""
    return (start + tl.arange(0, BLOCK // 8)[:, None] * 8 + tl.arange(0, 8)[None, :])[None, :, :]


@triton.jit
def maximum_and_sum(logits, row, inside_row, cols, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    """The maximum of each row and the sum of exp(logit - maximum)."""
    highest = tl.zeros((ROWS, BLOCK // 8), tl.float32) - 3.4e38  # of each group, so far: finite, so that -inf adds exp(-inf) = 0
    powers = tl.zeros((ROWS, BLOCK // 8), tl.float32)
    for start in tl.range(0, cols, BLOCK, num_stages=STAGES):
        col = columns(start, BLOCK)
        part = tl.load(logits + row * cols + col, mask=inside_row & (col < cols), other=-float("inf")).to(tl.float32)
        higher = tl.maximum(highest, tl.max(part, axis=2))
        powers = powers * tl.exp(highest - higher) + tl.sum(tl.exp(part - higher[:, :, None]), axis=2)
        highest = higher
    top = tl.max(highest, axis=1, keep_dims=True)
    return top[:, :, None], tl.sum(powers * tl.exp(highest - top), axis=1, keep_dims=True)[:, :, None]


@triton.jit(do_not_specialize=["rows", "units"])
def row_losses(
    logits, target, losses, rows, units, UNIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr
):
    cols = units * UNIT
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)[:, None, None]
    inside_row = row < rows - first
    logits += first * cols
    highest, total = maximum_and_sum(logits, row, inside_row, cols, ROWS, BLOCK, STAGES)
    label = tl.load(target + first + row, mask=inside_row, other=0)
    at_label = tl.load(logits + row * cols + label, mask=inside_row, other=0.0).to(tl.float32)
    tl.store(losses + first + row, tl.log(total) + (highest - at_label), mask=inside_row)


@triton.jit(do_not_specialize=["rows"])
def mean(losses, out, rows, BLOCK: tl.constexpr):
    total = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        total += tl.load(losses + row, mask=row < rows, other=0.0)
    tl.store(out, tl.sum(total, axis=0) / rows)


@triton.jit(do_not_specialize=["rows", "units"])
def row_gradients(
    loss_gradient, logits, target, out, rows, units,
    UNIT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr,
):
    cols = units * UNIT
    first = tl.program_id(0).to(tl.int64) * ROWS
    row = tl.arange(0, ROWS)[:, None, None]
    inside_row = row < rows - first
    logits += first * cols
    out += first * cols
    highest, total = maximum_and_sum(logits, row, inside_row, cols, ROWS, BLOCK, STAGES)
    label = tl.load(target + first + row, mask=inside_row, other=0)
    factor = tl.load(loss_gradient).to(tl.float32) / rows
    share = 1.0 / total
    for start in tl.range(0, cols, BLOCK, num_stages=STAGES):
        col = columns(start, BLOCK)
        inside = inside_row & (col < cols)
        part = tl.load(logits + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        probability = tl.exp(part - highest) * share
        tl.store(out + row * cols + col, (probability - tl.where(col == label.to(col.dtype), 1.0, 0.0)) * factor, mask=inside)


def shape(rows, cols):
    """What one row is a multiple of, rows a program, elements a step of each: the same for the loss and the gradient."""
    step = min(BLOCK, max(256, 1 << (cols - 1).bit_length()))
    unit = 8 if cols % 8 == 0 else 1  # rows begin where 16 bytes are read at once
    return unit, BLOCK // step, step


def cross_entropy(logits, target):
    logits, target = logits.contiguous(), target.contiguous()
    rows, cols = logits.shape
    loss = logits.new_empty((), dtype=torch.float32)
    losses = logits.new_empty((rows,), dtype=torch.float32)
    if rows > 0:
        unit, height, step = shape(rows, cols)
        row_losses[(-(-rows // height),)](
            logits, target, losses, rows, cols // unit, unit, height, step, STAGES, num_warps=WARPS
        )
    mean[(1,)](losses, loss, rows, MEAN_BLOCK, num_warps=8)
    return loss


def cross_entropy_backward(loss_gradient, logits, target):
    logits, target = logits.contiguous(), target.contiguous()
    rows, cols = logits.shape
    out = torch.empty_like(logits)
    if out.numel() == 0:
        return out
    unit, height, step = shape(rows, cols)
    row_gradients[(-(-rows // height),)](
        loss_gradient, logits, target, out, rows, cols // unit, unit, height, step, STAGES, num_warps=WARPS
    )
    return out
