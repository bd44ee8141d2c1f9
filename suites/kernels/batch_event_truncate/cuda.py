# batch_event_truncate: of each user's events, counted by outer_lengths, the first max_events, with their inner_lengths and values
# idea: what is kept of a user lies in one piece; sums over blocks of users place it all in three launches, into outputs as long as the inputs,
# spec: suites/test_recommendation.py::test_batch_event_truncate
# target: cuda
# parent: node 25
# measured: 9-16-200-200: 64.47x [52.62, 78.99] over eager, 7 pairs
# measured: 9-16-200-200: 66.00x [43.23, 100.76] over compile, 7 pairs
# measured: 32-16-200-100: 189.72x [149.88, 240.14] over eager, 7 pairs
# measured: 32-16-200-100: 174.65x [128.23, 237.88] over compile, 7 pairs
# measured: 32-2048-200-100: 90.75x [77.78, 105.88] over eager, 7 pairs
# measured: 32-2048-200-100: 91.74x [85.76, 98.13] over compile, 7 pairs
# shapes: 9-16-200-200, 32-16-200-100, 32-2048-200-100
# hardware: NVIDIA H200
# toolchain: triton 3.6.0
#   and the host reads two sizes when everything is under way

import torch
import triton
import triton.language as tl

USERS = 32  # users a program
BLOCK = 16  # elements of each user it reads at once
SUMS = 1024  # sums of earlier programs it adds at once
WARPS = 8


@triton.jit
def sum_before(sums, block, SUMS: tl.constexpr):
    """The sum of the first ``block`` of ``sums``."""
    total = tl.zeros((SUMS,), tl.int64)
    for start in range(0, block, SUMS):
        at = start + tl.arange(0, SUMS)
        total += tl.load(sums + at, mask=at < block, other=0)
    return tl.sum(total, axis=0)


@triton.jit(do_not_specialize=["count", "limit"])
def truncate_lengths(outer, outer_out, work, count, limit, USERS: tl.constexpr):
    """The kept events of each user, and the sums of both over this program's users.

    ``work``: the kept events and values in all, of each user its values and its kept values, and four sums a program: of events, kept
    events, values and kept values.
    """
    block, blocks = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    sums = work + 2 + 2 * count.to(tl.int64)
    user = block * USERS + tl.arange(0, USERS)
    events = tl.load(outer + user, mask=user < count, other=0)
    kept = tl.minimum(events, limit)
    tl.store(outer_out + user, kept, mask=user < count)
    tl.store(sums + block, tl.sum(events, axis=0))
    tl.store(sums + blocks + block, tl.sum(tl.maximum(kept, 0), axis=0))


@triton.jit(do_not_specialize=["count", "limit"])
def count_values(outer, inner, work, count, limit, USERS: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr):
    """How many values each user's events hold, and the kept ones."""
    block, blocks = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    sums = work + 2 + 2 * count.to(tl.int64)
    user = block * USERS + tl.arange(0, USERS)
    events = tl.load(outer + user, mask=user < count, other=0)
    kept = tl.minimum(events, limit)
    first = sum_before(sums, block, SUMS) + tl.cumsum(events, axis=0) - events
    total = tl.zeros((USERS, BLOCK), tl.int64)
    total_kept = tl.zeros((USERS, BLOCK), tl.int64)
    for start in range(0, tl.max(events, axis=0), BLOCK):
        at = start + tl.arange(0, BLOCK)[None, :]
        lengths = tl.load(inner + first[:, None] + at, mask=at < events[:, None], other=0)
        total += lengths
        total_kept += tl.where(at < kept[:, None], lengths, 0)
    values, values_kept = tl.sum(total, axis=1), tl.sum(total_kept, axis=1)
    tl.store(work + 2 + user, values, mask=user < count)
    tl.store(work + 2 + count + user, values_kept, mask=user < count)
    tl.store(sums + 2 * blocks + block, tl.sum(values, axis=0))
    tl.store(sums + 3 * blocks + block, tl.sum(values_kept, axis=0))


@triton.jit
def copy_pieces(source, out, first, to, length, BLOCK: tl.constexpr):
    """Copy ``length`` elements of each user."""
    for start in range(0, tl.max(length, axis=0), BLOCK):
        at = start + tl.arange(0, BLOCK)[None, :]
        part = tl.load(source + first[:, None] + at, mask=at < length[:, None])
        tl.store(out + to[:, None] + at, part, mask=at < length[:, None])


@triton.jit(do_not_specialize=["count", "limit"])
def copy_kept(
    outer, inner, values, work, inner_out, values_out, count, limit, USERS: tl.constexpr, BLOCK: tl.constexpr, SUMS: tl.constexpr
):
    """Copy what is kept; the last user's program writes how much that was."""
    block, blocks = tl.program_id(0).to(tl.int64), tl.num_programs(0)
    sums = work + 2 + 2 * count.to(tl.int64)
    user = block * USERS + tl.arange(0, USERS)
    events = tl.load(outer + user, mask=user < count, other=0)
    kept = tl.maximum(tl.minimum(events, limit), 0)
    first = sum_before(sums, block, SUMS) + tl.cumsum(events, axis=0) - events
    to = sum_before(sums + blocks, block, SUMS) + tl.cumsum(kept, axis=0) - kept
    copy_pieces(inner, inner_out, first, to, kept, BLOCK)
    tl.store(work + user * 0, to + kept, mask=user == count - 1)
    held = tl.load(work + 2 + user, mask=user < count, other=0)
    kept = tl.load(work + 2 + count + user, mask=user < count, other=0)
    first = sum_before(sums + 2 * blocks, block, SUMS) + tl.cumsum(held, axis=0) - held
    to = sum_before(sums + 3 * blocks, block, SUMS) + tl.cumsum(kept, axis=0) - kept
    copy_pieces(values, values_out, first, to, kept, BLOCK)
    tl.store(work + 1 + user * 0, to + kept, mask=user == count - 1)


def batch_event_truncate(outer_lengths, inner_lengths, values, max_events):
    outer, inner, values, limit = outer_lengths.contiguous(), inner_lengths.contiguous(), values.contiguous(), max_events
    count = outer.numel()
    outer_out, inner_out, values_out = torch.empty_like(outer), torch.empty_like(inner), torch.empty_like(values)
    if count == 0:
        return outer_out, inner_out, values_out
    blocks = -(-count // USERS)
    work = outer.new_empty((2 + 2 * count + 4 * blocks,), dtype=torch.int64)
    truncate_lengths[(blocks,)](outer, outer_out, work, count, limit, USERS, num_warps=1)
    count_values[(blocks,)](outer, inner, work, count, limit, USERS, BLOCK, SUMS, num_warps=WARPS)
    copy_kept[(blocks,)](outer, inner, values, work, inner_out, values_out, count, limit, USERS, BLOCK, SUMS, num_warps=WARPS)
    kept_events, kept_values = work[:2].tolist()
    return outer_out, inner_out[:kept_events], values_out[:kept_values]
