# embedding_bag: for each bag the sum of table[i] * scale[i] over its indices, which lie between two of offsets, in float32
# idea: a few bags and a slice of the columns a program; several rows of each are loaded at once, so that cache misses overlap
# spec: suites/test_recommendation.py::test_embedding_bag
# target: cuda
# parent: samples
# measured: 1000000-128-65536-20: 33.20x [32.69, 33.72] over eager, 7 pairs
# measured: 1000000-128-65536-20: 8.52x [7.89, 9.19] over compile, 7 pairs
# measured: 2000000-64-16384-50: 29.82x [29.12, 30.53] over eager, 7 pairs
# measured: 2000000-64-16384-50: 9.57x [7.90, 11.59] over compile, 7 pairs
# shapes: 1000000-128-65536-20, 2000000-64-16384-50
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

BAGS = 1  # bags a program
ELEMENTS = 1024  # of the rows of each bag that are loaded at once
COLS = 128  # columns a program, at most
WARPS = 1


@triton.jit(do_not_specialize=["bags", "units"])
def pool(
    table, scale, indices, offsets, out, bags, units,
    UNIT: tl.constexpr, BAGS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):
    dim = units * UNIT
    slices = tl.cdiv(dim, COLS)
    bag = (tl.program_id(0) // slices).to(tl.int64) * BAGS + tl.arange(0, BAGS)
    col = (tl.program_id(0) % slices) * COLS + tl.arange(0, COLS)
    first = tl.load(offsets + bag, mask=bag < bags, other=0)
    length = (tl.load(offsets + bag + 1, mask=bag < bags, other=0) - first).to(tl.int32)
    total = tl.zeros((BAGS, ROWS, COLS), tl.float32)
    for start in range(0, tl.max(length, axis=0), ROWS):
        step = start + tl.arange(0, ROWS)[None, :]
        held = step < length[:, None]
        index = tl.load(indices + first[:, None] + step, mask=held, other=0)
        scales = tl.load(scale + index, mask=held, other=0.0).to(tl.float32)
        row = (table + index * dim)[:, :, None]
        part = tl.load(row + col[None, None, :], mask=held[:, :, None] & (col < dim)[None, None, :], other=0)
        total += part.to(tl.float32) * scales[:, :, None]
    inside = (bag < bags)[:, None] & (col < dim)[None, :]
    tl.store(out + bag[:, None] * dim + col[None, :], tl.sum(total, axis=1), mask=inside)


def embedding_bag(table, scale, indices, offsets):
    table, scale, indices, offsets = table.contiguous(), scale.contiguous(), indices.contiguous(), offsets.contiguous()
    bags, dim = offsets.shape[0] - 1, table.shape[1]
    out = scale.new_empty((bags, dim), dtype=torch.float32)
    if out.numel() == 0:
        return out
    unit = 16 if dim % 16 == 0 else 1  # rows begin where 16 bytes are read at once
    width = min(COLS, max(16, 1 << (dim - 1).bit_length()))
    grid = (-(-bags // BAGS) * -(-dim // width),)
    pool[grid](table, scale, indices, offsets, out, bags, dim // unit, unit, BAGS, max(1, ELEMENTS // width), width, num_warps=WARPS)
    return out
