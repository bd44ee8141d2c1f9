# map_id: the 1-based position of each of values among the ascending ids, or 0 if it is none of them
# idea: many lookups pay for a table over equal ranges of values, 32 bytes each: where the range's ids begin, and the up to seven ids
# spec: suites/test_recommendation.py::test_map_id
# target: cuda
# parent: samples
# measured: 100-10000-dense: 4.43x [4.15, 4.74] over eager, 7 pairs
# measured: 100-10000-dense: 0.97x [0.96, 0.99] over compile, 7 pairs
# measured: 10000-10000-dense: 3.14x [3.05, 3.24] over eager, 7 pairs
# measured: 10000-10000-dense: 0.97x [0.96, 0.98] over compile, 7 pairs
# measured: 10000-50000-dense: 3.21x [2.79, 3.68] over eager, 7 pairs
# measured: 10000-50000-dense: 1.57x [1.56, 1.58] over compile, 7 pairs
# measured: 1000000-4000000-random: 5.51x [5.47, 5.55] over eager, 7 pairs
# measured: 1000000-4000000-random: 4.10x [4.08, 4.12] over compile, 7 pairs
# measured: 1000000-4000000-clustered: 1.78x [1.75, 1.81] over eager, 7 pairs
# measured: 1000000-4000000-clustered: 1.32x [1.30, 1.34] over compile, 7 pairs
# shapes: 100-10000-dense, 10000-10000-dense, 10000-50000-dense, 1000000-4000000-random, 1000000-4000000-clustered
# hardware: NVIDIA H200
# toolchain: triton 3.6.0
#   themselves (of more, seven that part them), so that most lookups read one sector where a binary search reads one a level;
#   a few lookups, or few ids, are searched at once, without branches

import torch
import triton
import triton.language as tl

BLOCK = 128  # values a program
WARPS = 1  # of a program that looks up in the table; of one that searches: a thread a value
IDS = 2  # ids a range, on average: so many to twice as many
LOOKUPS = 65536  # so many pay for the table


@triton.jit(do_not_specialize=["count", "known", "step"])
def search(values, ids, out, count, known, step, BLOCK: tl.constexpr):
    """``step``: the greatest power of two that is not above ``known``, or 0."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < count - first
    value = tl.load(values + first + place, mask=inside, other=0)
    below = tl.zeros((BLOCK,), tl.int64)  # so many ids are smaller, at least
    while step > 0:
        further = below + step
        within = inside & (further <= known)
        probe = tl.load(ids + further - 1, mask=within, other=0)
        below = tl.where(within & (probe < value), further, below)
        step >>= 1
    within = inside & (below < known)
    probe = tl.load(ids + below, mask=within, other=0)
    tl.store(out + first + place, tl.where(within & (probe == value), below + 1, 0), mask=inside)


@triton.jit
def distance_shift(ids, known, RANGES: tl.constexpr):
    """The smallest id; by how much distances from it are shifted to be numbers of ranges, all below RANGES; and how many of the bits that
    are shifted out are kept in a row, up to seven ids of them or none."""
    lowest = tl.load(ids)
    spread = (tl.load(ids + known - 1) - lowest).to(tl.uint64, bitcast=True)
    shift = tl.zeros((), tl.uint64)
    for step in tl.static_range(6):
        further = shift + (32 >> step)
        shift = tl.where((spread >> (further - 1)) >= RANGES, further, shift)
    return lowest, shift, tl.where(shift <= 30, (1 << tl.minimum(shift, 30).to(tl.int32)) - 1, 0), tl.where(shift <= 30, 7, 0)


@triton.jit
def count_below(ids, known, lowest, shift, number, LEVELS: tl.constexpr):
    """How many ids lie in ranges before ``number``; neighbours search the same ids, so that a warp reads few sectors a level."""
    below = tl.zeros_like(number)
    for level in tl.static_range(LEVELS):
        further = below + (1 << (LEVELS - 1 - level))
        within = further <= known
        distance = (tl.load(ids + further - 1, mask=within, other=0) - lowest).to(tl.uint64, bitcast=True)
        below = tl.where(within & ((distance >> shift).to(tl.int32) < number), further, below)
    return below


@triton.jit(do_not_specialize=["known"])
def make_table(ids, table, known, LEVELS: tl.constexpr, RANGES: tl.constexpr, BLOCK: tl.constexpr):
    """Of each range eight numbers: where its ids begin (inverted where there are more than seven), then the low bits of the ids or, of more
    than seven, of those at the ends of each eighth. A range of distances of more than 30 bits has no low bits and counts as full."""
    lowest, shift, kept_bits, most = distance_shift(ids, known, RANGES)
    number = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    begin = count_below(ids, known, lowest, shift, number, LEVELS)
    size = count_below(ids, known, lowest, shift, number + 1, LEVELS) - begin
    full = (size > most) | (size * 0 == most)  # where no bits are kept, every range
    column = tl.arange(0, 8)[None, :]
    place = tl.where(full[:, None], column * (size >> 3)[:, None], column - 1)
    within = (column > 0) & (column <= most) & (full[:, None] | (place < size[:, None]))
    distance = tl.load(ids + begin[:, None] + place, mask=within, other=0) - lowest
    low_bits = distance.to(tl.int32) & kept_bits
    row = tl.where(column == 0, tl.where(full, -1 - begin, begin)[:, None], tl.where(within, low_bits, 0x7FFFFFFF))
    tl.store(table + number[:, None] * 8 + column, row)
    if tl.program_id(0) == 0:
        tl.store(table + RANGES * 8, known)


@triton.jit(do_not_specialize=["count", "known"])
def search_table(values, ids, table, out, count, known, RANGES: tl.constexpr, BLOCK: tl.constexpr):
    first = tl.program_id(0).to(tl.int64) * BLOCK
    place = tl.arange(0, BLOCK)
    inside = place < count - first
    value = tl.load(values + first + place, mask=inside, other=0)
    lowest, shift, kept_bits, most = distance_shift(ids, known, RANGES)
    inside = inside & (value >= lowest) & (value <= tl.load(ids + known - 1))
    distance = tl.where(inside, value - lowest, 0)
    number = (distance.to(tl.uint64, bitcast=True) >> shift).to(tl.int32)
    low_bits = distance.to(tl.int32) & kept_bits
    column = tl.arange(0, 8)[None, :]
    row = tl.load(table + number[:, None] * 8 + column, mask=inside[:, None], other=0x7FFFFFFF)
    begin = tl.sum(tl.where(column == 0, row, 0), axis=1)
    same = (column > 0) & (row == low_bits[:, None])
    found = tl.where(begin >= 0, tl.max(tl.where(same, begin[:, None] + column, 0), axis=1), 0)
    # of a full range the eighth is known that the value lies in
    full = inside & (begin < 0)
    begin = tl.where(full, -1 - begin, 0)
    end = tl.load(table + number * 8 + 8, mask=full, other=0)
    end = tl.where(end < 0, -1 - end, end)
    passed = tl.sum(((column > 0) & (row <= low_bits[:, None])).to(tl.int32), axis=1)
    eighth = (end - begin) >> 3
    low = begin + passed * eighth
    high = tl.where(passed < most, low + eighth, end)
    while tl.max(high - low, axis=0) > 0:
        middle = low + ((high - low) >> 1)
        probe = tl.load(ids + middle, mask=low < high, other=0)
        found = tl.where((low < high) & (probe == value), middle + 1, found)
        high = tl.where(probe < value, high, tl.where(found > 0, low, middle))
        low = tl.where((low < high) & (probe < value), middle + 1, low)
    tl.store(out + first + place, found.to(tl.int64), mask=place < count - first)


def map_id(values, ids):
    values, ids = values.contiguous(), ids.contiguous()
    out = torch.empty_like(values)
    count, known = out.numel(), ids.numel()
    if count == 0:
        return out
    levels = known.bit_length()
    grid = (-(-count // BLOCK),)
    if count < LOOKUPS or count < known or known < 1024 or known >= 1 << 27:
        search[grid](values, ids, out, count, known, 1 << levels >> 1, BLOCK, num_warps=max(1, BLOCK // 32))
        return out
    ranges = max(128, (1 << (levels - 1)) // IDS)
    table = ids.new_empty((ranges * 8 + 1,), dtype=torch.int32)
    make_table[(ranges // 128,)](ids, table, known, levels, ranges, 128)
    search_table[grid](values, ids, table, out, count, known, ranges, BLOCK, num_warps=WARPS)
    return out
