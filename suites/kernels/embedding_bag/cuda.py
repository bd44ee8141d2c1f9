# embedding_bag: int8 rows with a scale each, summed over bags
# idea: two bags a warp, each split over a few lane groups of 16-byte loads, several rows deep, indices one step ahead, bytes unpacked without conversions
# spec: suites/test_recommendation.py::test_embedding_bag
# target: cuda
# parent: agent
# measured: 1000000-128-65536-20: 46.89x [46.54, 47.25] over eager, 7 pairs
# measured: 1000000-128-65536-20: 12.16x [11.15, 13.26] over compile, 7 pairs
# measured: 2000000-64-16384-50: 35.56x [29.64, 42.66] over eager, 7 pairs
# measured: 2000000-64-16384-50: 11.56x [8.33, 16.04] over compile, 7 pairs
# shapes: 1000000-128-65536-20, 2000000-64-16384-50
# hardware: NVIDIA H200
# toolchain: triton 3.6.0
import torch
import triton
import triton.language as tl

SPLIT = 2  # tune: 1, 2, 4
DEEP = 5  # tune: 4, 5, 8, 10
SPLIT_NARROW = 4  # tune: 1, 2, 4, 8
DEEP_NARROW = 7  # tune: 4, 5, 7, 9


LOW = 0x4B000080  # 2**23 as float32, and the sign bit of a byte in bits 0 to 7
HIGH = 0x47008000  # 2**15 as float32, and the sign bit of a byte in bits 8 to 15


@triton.jit
def unpack(word, low, high, BYTE: tl.constexpr):
    # A signed byte of a word as float32 with no conversion instruction (a quarter rate at best): (byte ^ 0x80) under an
    # exponent is a power of two + 128 + value. The exponents come as arguments, so that and + xor is one instruction.
    if BYTE >= 2:
        word = (word.to(tl.uint32, bitcast=True) >> 16).to(tl.int32, bitcast=True)
    if BYTE % 2 == 0:
        return ((word & 0xFF) ^ low).to(tl.float32, bitcast=True) - 8388736.0
    return ((word & 0xFF00) ^ high).to(tl.float32, bitcast=True) - 32896.0


@triton.jit
def fetch_indices(place, left, DEEP: tl.constexpr, SPLIT: tl.constexpr):
    # the low halves of indices, which are below 2**31
    found = ()
    for k in tl.static_range(DEEP):
        found = found + (tl.load(place + 2 * SPLIT * k, mask=left > SPLIT * k, other=0),)
    return found


@triton.jit
def bags_split(table, scale, indices, offsets, out, bags, low, high, W: tl.constexpr, TILE: tl.constexpr, SPLIT: tl.constexpr, DEEP: tl.constexpr):
    col = tl.arange(0, W)
    words = table.to(tl.pointer_type(tl.int32), bitcast=True) + col[None, None, :]
    part = tl.arange(0, SPLIT)[None, :]
    bag = tl.program_id(0) * TILE + tl.arange(0, TILE)
    here = bag < bags
    start = tl.load(offsets + bag, mask=here, other=0)
    length = (tl.load(offsets + bag + 1, mask=here, other=0) - start).to(tl.int32)
    longest = tl.max(length, 0)
    left = length[:, None] - part  # of this lane group's rows: every SPLIT-th of the bag
    place = indices.to(tl.pointer_type(tl.int32), bitcast=True) + (2 * start[:, None] + 2 * part)
    ids = fetch_indices(place, left, DEEP, SPLIT)
    a0 = tl.zeros((TILE, SPLIT, W), tl.float32)
    a1 = tl.zeros((TILE, SPLIT, W), tl.float32)
    a2 = tl.zeros((TILE, SPLIT, W), tl.float32)
    a3 = tl.zeros((TILE, SPLIT, W), tl.float32)
    for done in range(0, longest, DEEP * SPLIT):
        rows = ()
        scales = ()
        for k in tl.static_range(DEEP):
            inside = left > SPLIT * k
            scales = scales + (tl.load(scale + ids[k], mask=inside, other=0.0),)
            rows = rows + (tl.load(words + (ids[k].to(tl.int64) * W)[:, :, None], mask=inside[:, :, None], other=0),)
        # the next indices, on their way while these rows are
        left -= DEEP * SPLIT
        place += 2 * DEEP * SPLIT
        ids = fetch_indices(place, left, DEEP, SPLIT)
        for k in tl.static_range(DEEP):
            if done + SPLIT * k < longest:
                factor = scales[k][:, :, None]
                a0 += unpack(rows[k], low, high, 0) * factor
                a1 += unpack(rows[k], low, high, 1) * factor
                a2 += unpack(rows[k], low, high, 2) * factor
                a3 += unpack(rows[k], low, high, 3) * factor
    total = tl.reshape(tl.join(tl.join(tl.sum(a0, 1), tl.sum(a2, 1)), tl.join(tl.sum(a1, 1), tl.sum(a3, 1))), (TILE, 4 * W))
    spot = out + bag.to(tl.int64)[:, None] * (4 * W) + tl.arange(0, 4 * W)[None, :]
    tl.store(spot, total, mask=here[:, None], eviction_policy="evict_first")


@triton.jit
def bag_bytes(table, scale, indices, offsets, out, dim, ROWS: tl.constexpr, COLS: tl.constexpr):
    bag = tl.program_id(0).to(tl.int64)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    row = tl.arange(0, ROWS)
    start = tl.load(offsets + bag)
    end = tl.load(offsets + bag + 1)
    total = tl.zeros((ROWS, COLS), tl.float32)
    for place in range(start, end, ROWS):
        inside = place + row < end
        index = tl.load(indices + place + row, mask=inside, other=0)
        factor = tl.load(scale + index, mask=inside, other=0.0)
        value = tl.load(table + (index * dim)[:, None] + col[None, :], mask=inside[:, None] & (col < dim)[None, :], other=0)
        total += value.to(tl.float32) * factor[:, None]
    tl.store(out + bag * dim + col, tl.sum(total, 0), mask=col < dim)


def embedding_bag(table, scale, indices, offsets):
    table, scale, indices, offsets = table.contiguous(), scale.contiguous(), indices.contiguous(), offsets.contiguous()
    bags = offsets.shape[0] - 1
    dim = table.shape[1]
    out = torch.empty((bags, dim), dtype=torch.float32, device=table.device)
    if out.numel() == 0:
        return out
    if dim in (32, 64, 128, 256, 512) and table.shape[0] < 2**31 and table.storage_offset() % 16 == 0:
        words = dim // 4
        lines = max(1, 128 // words)  # rows that a warp's load of 16 bytes a lane holds
        split = min(lines, SPLIT if words >= 32 else SPLIT_NARROW)
        deep = DEEP if words >= 32 else DEEP_NARROW
        tile = lines // split
        bags_split[(triton.cdiv(bags, tile),)](table, scale, indices, offsets, out, bags, LOW, HIGH, words, tile, split, deep, num_warps=1)
    else:
        cols = min(128, triton.next_power_of_2(dim))
        bag_bytes[(bags, triton.cdiv(dim, cols))](table, scale, indices, offsets, out, dim, 8, cols, num_warps=1)
    return out
