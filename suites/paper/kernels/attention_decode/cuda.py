# attention_decode: k, v into the caches at position, then softmax(q k_cache^T / sqrt(dim)) v_cache up to it
# idea: a part of the places a program, for all heads of queries that share a head of the caches; a second kernel adds the parts
# spec: suites/paper/test_paper_attention.py::test_attention_decode
# target: cuda
# parent: samples
# measured: 1-8-4-4096-128-bfloat16: 6.38x [3.13, 12.99] over eager, 7 pairs
# measured: 1-8-4-4096-128-bfloat16: 2.75x [2.73, 2.77] over compile, 7 pairs
# measured: 1-8-4-32768-128-bfloat16: 12.75x [12.42, 13.08] over eager, 7 pairs
# measured: 1-8-4-32768-128-bfloat16: 6.13x [6.11, 6.14] over compile, 7 pairs
# measured: 16-8-4-4096-128-bfloat16: 15.56x [14.85, 16.31] over eager, 7 pairs
# measured: 16-8-4-4096-128-bfloat16: 7.21x [7.19, 7.23] over compile, 7 pairs
# measured: 64-8-4-2048-128-float16: 16.21x [14.53, 18.08] over eager, 7 pairs
# measured: 64-8-4-2048-128-float16: 8.16x [8.13, 8.19] over compile, 7 pairs
# shapes: 1-8-4-4096-128-bfloat16, 1-8-4-32768-128-bfloat16, 16-8-4-4096-128-bfloat16, 64-8-4-2048-128-float16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

BLOCK = 64  # places a step
PROGRAMS = 528  # programs to divide the places among, at most
WARPS = 4
STAGES = 3  # steps under way at once, at most
SHARED = 147456  # bytes of keys and values under way
PARTS = 64  # parts added at once


@triton.jit
def places_of(cache, place, begin, last, stride, col, at, dim, new):
    """Rows of a cache; zeros beyond ``last``, whose row is ``new``: that in memory is being written. ``at``: where the columns lie."""
    inside = (begin + place < last)[:, None] & (col < dim)[None, :]
    rows = tl.load(cache + tl.cast(begin, tl.int64) * stride + place[:, None] * stride + at[None, :], mask=inside, other=0.0)
    return tl.where((begin + place == last)[:, None], new[None, :], rows)


@triton.jit(do_not_specialize=[
    "heads", "group", "last", "span", "parts", "units", "q_batch", "q_head", "k_batch", "k_head", "v_batch", "v_head",
    "kc_batch", "kc_head", "kc_place", "kc_col", "vc_batch", "vc_head", "vc_place", "vc_col",
])
def attend(
    q, k, v, k_cache, v_cache, out, parts_of, heads, group, last, span, parts, units, factor,
    q_batch, q_head, k_batch, k_head, v_batch, v_head, kc_batch, kc_head, kc_place, kc_col, vc_batch, vc_head, vc_place, vc_col,
    UNIT: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr, DIM: tl.constexpr, PLAIN: tl.constexpr, WHOLE: tl.constexpr,
    STAGES: tl.constexpr,
):
    """``span`` places for the heads of queries that share a head of the caches (``heads`` of them).

    Strides are counted in UNIT elements, those of columns in one. PLAIN: these are 1. WHOLE: ``span`` places are all.
    """
    dim = units * UNIT
    part = tl.program_id(0) % parts
    number = (tl.program_id(0) // parts).to(tl.int64)
    batch, head = number // heads, number % heads
    member, col, place = tl.arange(0, GROUP), tl.arange(0, DIM), tl.arange(0, BLOCK)
    k_cache += batch * kc_batch * UNIT + head * kc_head * UNIT
    v_cache += batch * vc_batch * UNIT + head * vc_head * UNIT
    key_col, value_col = col, col
    if not PLAIN:
        key_col, value_col = col.to(tl.int64) * kc_col, col.to(tl.int64) * vc_col
    new_key = tl.load(k + batch * k_batch * UNIT + head * k_head * UNIT + col, mask=col < dim, other=0.0)
    new_value = tl.load(v + batch * v_batch * UNIT + head * v_head * UNIT + col, mask=col < dim, other=0.0)
    if part == parts - 1:
        tl.store(k_cache + tl.cast(last, tl.int64) * kc_place * UNIT + key_col, new_key, mask=col < dim)
        tl.store(v_cache + tl.cast(last, tl.int64) * vc_place * UNIT + value_col, new_value, mask=col < dim)
    row = head * group + member
    inside = (member < group)[:, None] & (col < dim)[None, :]
    queries = tl.load(q + batch * q_batch * UNIT + row[:, None] * q_head * UNIT + col[None, :], mask=inside, other=0.0)
    highest = tl.zeros((GROUP,), tl.float32) - float("inf")
    sums = tl.zeros((GROUP,), tl.float32)
    total = tl.zeros((GROUP, DIM), tl.float32)
    first = part * span
    for begin in tl.range(first, tl.minimum(first + span, last + 1), BLOCK, num_stages=STAGES):
        keys = places_of(k_cache, place, begin, last, kc_place * UNIT, col, key_col, dim, new_key)
        values = places_of(v_cache, place, begin, last, vc_place * UNIT, col, value_col, dim, new_value)
        scores = tl.dot(queries, tl.trans(keys), input_precision="ieee")
        scores = tl.where((begin + place <= last)[None, :], scores, -float("inf"))
        higher = tl.maximum(highest, tl.max(scores, axis=1))
        powers = tl.exp2((scores - higher[:, None]) * factor)
        share = tl.exp2((highest - higher) * factor)
        sums = sums * share + tl.sum(powers, axis=1)
        total = tl.dot(powers.to(values.dtype), values, total * share[:, None], input_precision="ieee")
        highest = higher
    row += batch * heads * group
    if WHOLE:
        result = (total / sums[:, None]).to(out.dtype.element_ty)
        tl.store(out + row[:, None] * dim + col[None, :], result, mask=inside)
    else:  # of each head and part: the results, then the maximum and the sum
        at = parts_of + (row * parts + part) * (dim + 2)
        tl.store(at[:, None] + col[None, :], total, mask=inside)
        tl.store(at + dim, highest, mask=member < group)
        tl.store(at + dim + 1, sums, mask=member < group)


@triton.jit(do_not_specialize=["parts", "dim"])
def add_parts(parts_of, out, parts, dim, factor, PARTS: tl.constexpr, DIM: tl.constexpr):
    """One head's parts as one result."""
    head = tl.program_id(0).to(tl.int64)
    parts_of += head * parts * (dim + 2)
    col = tl.arange(0, DIM)
    highest = tl.full((), -float("inf"), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        maxima = tl.load(parts_of + part * (dim + 2) + dim, mask=part < parts, other=-float("inf"))
        highest = tl.maximum(highest, tl.max(maxima, axis=0))
    sums = tl.zeros((PARTS,), tl.float32)
    total = tl.zeros((PARTS, DIM), tl.float32)
    for start in range(0, parts, PARTS):
        part = start + tl.arange(0, PARTS)
        at, held = parts_of + part * (dim + 2), part < parts
        share = tl.exp2((tl.load(at + dim, mask=held, other=-float("inf")) - highest) * factor)
        sums += share * tl.load(at + dim + 1, mask=held, other=0.0)
        total += share[:, None] * tl.load(at[:, None] + col[None, :], mask=held[:, None] & (col < dim)[None, :], other=0.0)
    result = tl.sum(total, axis=0) / tl.sum(sums, axis=0)
    tl.store(out + head * dim + col, result.to(out.dtype.element_ty), mask=col < dim)


def power_of_two(size, least):
    """The power of two that holds ``size``."""
    return max(least, 1 << (size - 1).bit_length())


def launch_attention(q, k, v, k_cache, v_cache, last, dtype):
    """Writes the caches; the result is contiguous [batch, heads, dim] of ``dtype``."""
    q, k, v = [value if value.stride(2) == 1 else value.contiguous() for value in (q, k, v)]
    (batches, heads, dim), shared = q.shape, k.shape[1]
    out = torch.empty(q.shape, dtype=dtype, device=q.device)
    if out.numel() == 0:
        return out
    strides = [value.stride(axis) for value in (q, k, v) for axis in range(2)]
    strides += [cache.stride(axis) for cache in (k_cache, v_cache) for axis in range(4)]
    plain = strides[9] == 1 and strides[13] == 1  # columns of the caches are neighbours
    aligned = plain and dim % 8 == 0 and not any(stride % 8 for stride in strides if stride != 1)
    unit = 8 if aligned else 1  # rows begin where 16 bytes are read at once
    held = power_of_two(dim, 64)  # Triton 3.6 compiles a product of fewer columns in a loop to wrong shared memory addresses (sm_90)
    step_bytes = 2 * BLOCK * held * q.element_size()
    block = BLOCK if step_bytes <= SHARED else 64
    stages = max(1, min(STAGES, SHARED // step_bytes))
    steps = -(-(last + 1) // block)
    span = -(-steps // min(steps, max(1, PROGRAMS // (batches * shared)))) * block
    parts = -(-(last + 1) // span)
    parts_of = out if parts == 1 else torch.empty((batches * heads * parts, dim + 2), dtype=torch.float32, device=q.device)
    factor = 1.4426950408889634 / dim**0.5
    attend[(batches * shared * parts,)](
        q, k, v, k_cache, v_cache, out, parts_of, shared, heads // shared, last, span, parts, dim // unit, factor,
        *[stride if axis in (9, 13) else stride // unit for axis, stride in enumerate(strides)],
        unit, power_of_two(heads // shared, 16), block, held, plain, parts == 1, stages, num_warps=WARPS,
    )
    if parts > 1:
        add_parts[(batches * heads,)](parts_of, out, parts, dim, factor, min(PARTS, power_of_two(parts, 1)), held, num_warps=WARPS)
    return out

def attention_decode(q, k, v, k_cache, v_cache, position):
    return launch_attention(q, k, v, k_cache, v_cache, position, q.dtype)
