# batch_event_truncate: both levels of a jagged pair truncated in one launch
# idea: one fused launch, users in registers; decoupled look-back on packed words gives event and value offsets, inner is read once, and both sizes reach the host through pinned memory while values are still copied
# spec: suites/test_recommendation.py::test_batch_event_truncate
# target: cuda
# parent: agent
# measured: 9-16-200-200: 158.28x [91.99, 272.33] over eager, 7 pairs
# measured: 9-16-200-200: 169.55x [75.85, 379.00] over compile, 7 pairs
# measured: 32-16-200-100: 290.87x [200.97, 420.97] over eager, 7 pairs
# measured: 32-16-200-100: 299.30x [212.32, 421.91] over compile, 7 pairs
# measured: 32-2048-200-100: 86.58x [70.50, 106.33] over eager, 7 pairs
# measured: 32-2048-200-100: 91.31x [73.00, 114.21] over compile, 7 pairs
# shapes: 9-16-200-200, 32-16-200-100, 32-2048-200-100
# hardware: NVIDIA H200
# toolchain: triton 3.6.0
import torch
import triton
import triton.language as tl

FEW = 4096  # tune: 1024, 4096, 8192
FEW_USERS = 4  # tune: 2, 4, 8
FEW_COLS = 64  # tune: 32, 64, 128
FEW_WARPS = 4  # tune: 2, 4, 8
MANY_USERS = 16  # tune: 16, 32, 64
MANY_COLS = 32  # tune: 16, 32, 64
MANY_WARPS = 4  # tune: 4, 8, 16
SCAN = 512  # tune: 256, 512, 1024
WINDOW = 128  # tune: 64, 128, 256


@triton.jit
def look_back(words, block, WINDOW: tl.constexpr):
    """Sums of both counts of all blocks before this one.

    A word is 0 until published, then two counts of 31 bits: with bit 62 of its own block, negative of all blocks up to it.
    """
    first = tl.zeros((WINDOW,), tl.int64)
    second = tl.zeros((WINDOW,), tl.int64)
    end = block
    while end > 0:
        at = end - WINDOW + tl.arange(0, WINDOW)
        word = tl.load(words + at, mask=at >= 0, other=-9223372036854775808, volatile=True)
        nearest = tl.max(tl.where(word < 0, at, end - WINDOW - 1), axis=0)  # sums of all up to there
        counted = at >= nearest
        if tl.min(tl.where(counted & (word == 0), 0, 1), axis=0) == 1:
            first += tl.where(counted, (word >> 31) & 0x7FFFFFFF, 0)
            second += tl.where(counted, word & 0x7FFFFFFF, 0)
            end = tl.where(nearest >= end - WINDOW, 0, end - WINDOW)
    return tl.sum(first, axis=0), tl.sum(second, axis=0)


@triton.jit
def pair_before(words, blocks, block, SCAN: tl.constexpr):
    """Sums of both words of every block before this one; a word holds its sum + 1, 0 until it is published."""
    first = tl.zeros((SCAN,), tl.int64)
    second = tl.zeros((SCAN,), tl.int64)
    for start in range(0, block, SCAN):
        at = start + tl.arange(0, SCAN)
        inside = at < block
        one = tl.load(words + at, mask=inside, other=1, volatile=True)
        two = tl.load(words + blocks + at, mask=inside, other=1, volatile=True)
        while tl.min(tl.minimum(one, two), axis=0) == 0:
            one = tl.load(words + at, mask=inside, other=1, volatile=True)
            two = tl.load(words + blocks + at, mask=inside, other=1, volatile=True)
        first += one - 1
        second += two - 1
    return tl.sum(first, axis=0), tl.sum(second, axis=0)


@triton.jit
def before(words, blocks, block, first, second, WIDE: tl.constexpr, WINDOW: tl.constexpr):
    """Publishes this block's two sums, returns those of all blocks before it."""
    if WIDE:
        tl.store(words + block, first + 1)
        tl.store(words + blocks + block, second + 1)
        first_before, second_before = pair_before(words, blocks, block, WINDOW)
    else:
        packed = (first << 31) | second
        tl.store(words + block, packed | 0x4000000000000000)
        first_before, second_before = look_back(words, block, WINDOW)
        packed = ((first_before + first) << 31) | (second_before + second)
        tl.store(words + block, packed | -9223372036854775808)
    return first_before, second_before


@triton.jit(do_not_specialize=["users", "limit"])
def truncate_kernel(
    outer, inner, values, outer_out, inner_out, values_out, state, sizes, users, limit,
    REREAD: tl.constexpr, WIDE: tl.constexpr, SCALE: tl.constexpr,
    USERS: tl.constexpr, COLS: tl.constexpr, SCAN: tl.constexpr, WINDOW: tl.constexpr,
):
    INT: tl.constexpr = tl.int64 if WIDE else tl.int32
    block = tl.program_id(0)
    blocks = tl.num_programs(0)
    user = block * USERS + tl.arange(0, USERS)
    real = user < users
    long_length = tl.load(outer + user, mask=real, other=0)
    long_kept = tl.minimum(long_length, limit)
    length = long_length.to(INT)
    kept = long_kept.to(INT)
    events = tl.sum(length, axis=0).to(tl.int64)
    kept_events = tl.sum(kept, axis=0).to(tl.int64)

    # events before this block
    if REREAD:
        lengths = tl.zeros((SCAN,), tl.int64)
        keeps = tl.zeros((SCAN,), tl.int64)
        for start in range(0, block * USERS, SCAN):
            at = start + tl.arange(0, SCAN)
            some = tl.load(outer + at, mask=at < block * USERS, other=0)
            lengths += some
            keeps += tl.minimum(some, limit)
        source_base = tl.sum(lengths, axis=0)
        target_base = tl.sum(keeps, axis=0)
    else:
        source_base, target_base = before(state, blocks, block, events, kept_events, WIDE, WINDOW)
    tl.store(outer_out + user, long_kept, mask=real)
    if block == blocks - 1:
        tl.store(sizes, target_base + kept_events)

    # copy the kept events' lengths, sum them for each user
    inner += source_base
    inner_out += target_base
    source = (tl.cumsum(length, axis=0) - length)[:, None]
    target = (tl.cumsum(kept, axis=0) - kept)[:, None]
    kept_sums = tl.zeros((USERS, COLS), INT)
    lane = tl.arange(0, COLS)[None, :].to(INT)
    most = tl.max(kept, axis=0)
    for start in range(0, most, 4 * COLS):  # four loads a thread and row before the first store
        col = start + lane
        a = tl.load(inner + (source + col), mask=col < kept[:, None], other=0, eviction_policy="evict_first")
        b = tl.load(inner + (source + col + COLS), mask=col + COLS < kept[:, None], other=0, eviction_policy="evict_first")
        c = tl.load(inner + (source + col + 2 * COLS), mask=col + 2 * COLS < kept[:, None], other=0, eviction_policy="evict_first")
        d = tl.load(inner + (source + col + 3 * COLS), mask=col + 3 * COLS < kept[:, None], other=0, eviction_policy="evict_first")
        tl.store(inner_out + (target + col), a, mask=col < kept[:, None])
        tl.store(inner_out + (target + col + COLS), b, mask=col + COLS < kept[:, None])
        tl.store(inner_out + (target + col + 2 * COLS), c, mask=col + 2 * COLS < kept[:, None])
        tl.store(inner_out + (target + col + 3 * COLS), d, mask=col + 3 * COLS < kept[:, None])
        kept_sums += (a + b + c + d).to(INT)
    kept_held = tl.sum(kept_sums, axis=1)

    # the dropped events' lengths are only summed
    drop_sums = tl.zeros((USERS, COLS), INT)
    longest = tl.max(length, axis=0)
    for start in range(most, longest, 4 * COLS):  # rows longer than they are kept are all kept up to most
        col = start + lane
        a = tl.load(inner + (source + col), mask=col < length[:, None], other=0, eviction_policy="evict_first")
        b = tl.load(inner + (source + col + COLS), mask=col + COLS < length[:, None], other=0, eviction_policy="evict_first")
        c = tl.load(inner + (source + col + 2 * COLS), mask=col + 2 * COLS < length[:, None], other=0, eviction_policy="evict_first")
        d = tl.load(inner + (source + col + 3 * COLS), mask=col + 3 * COLS < length[:, None], other=0, eviction_policy="evict_first")
        drop_sums += (a + b + c + d).to(INT)
    held = kept_held + tl.sum(drop_sums, axis=1)

    # values before this block
    words = state + 2 * blocks
    all_held = tl.sum(held, axis=0).to(tl.int64)
    all_kept = tl.sum(kept_held, axis=0).to(tl.int64)
    source_base, target_base = before(words, blocks, block, all_held, all_kept, WIDE, WINDOW)
    if block == blocks - 1:
        tl.store(sizes + 1, target_base + all_kept)

    values += source_base * SCALE
    values_out += target_base * SCALE
    source = ((tl.cumsum(held, axis=0) - held) * SCALE)[:, None]
    target = ((tl.cumsum(kept_held, axis=0) - kept_held) * SCALE)[:, None]
    count = kept_held * SCALE
    most = tl.max(count, axis=0)
    for start in range(0, most, 4 * COLS):
        col = start + lane
        a = tl.load(values + (source + col), mask=col < count[:, None], eviction_policy="evict_first")
        b = tl.load(values + (source + col + COLS), mask=col + COLS < count[:, None], eviction_policy="evict_first")
        c = tl.load(values + (source + col + 2 * COLS), mask=col + 2 * COLS < count[:, None], eviction_policy="evict_first")
        d = tl.load(values + (source + col + 3 * COLS), mask=col + 3 * COLS < count[:, None], eviction_policy="evict_first")
        tl.store(values_out + (target + col), a, mask=col < count[:, None])
        tl.store(values_out + (target + col + COLS), b, mask=col + COLS < count[:, None])
        tl.store(values_out + (target + col + 2 * COLS), c, mask=col + 2 * COLS < count[:, None])
        tl.store(values_out + (target + col + 3 * COLS), d, mask=col + 3 * COLS < count[:, None])


def batch_event_truncate(outer_lengths, inner_lengths, values, max_events):
    outer = outer_lengths.contiguous()
    inner = inner_lengths.contiguous()
    values = values.contiguous()
    outer_out = torch.empty_like(outer)
    inner_out = torch.empty_like(inner)
    values_out = torch.empty_like(values)
    users = outer.numel()
    if users == 0:
        return outer_out, inner_out[:0], values_out[:0]
    size = values.element_size()
    raw, raw_out = values, values_out
    if values.dtype != torch.float32:  # bits are copied, whatever they mean
        bits = torch.int64 if size >= 8 else torch.int32 if size == 4 else torch.int16 if size == 2 else torch.uint8
        if values.dtype != bits:
            raw, raw_out = values.view(bits), values_out.view(bits)
    few = users <= FEW
    block = FEW_USERS if few else MANY_USERS
    blocks = triton.cdiv(users, block)
    state = torch.zeros((4 * blocks,), dtype=torch.int64, device=outer.device)
    sizes = torch.full((2,), -1, dtype=torch.int64, pin_memory=outer.is_cuda)
    truncate_kernel[(blocks,)](
        outer, inner, raw, outer_out, inner_out, raw_out, state, sizes, users, max_events,
        few, inner.numel() >= 2**30 or values.numel() >= 2**30, 2 if size == 16 else 1,
        block, FEW_COLS if few else MANY_COLS, SCAN, WINDOW, num_warps=FEW_WARPS if few else MANY_WARPS,
    )
    events, held = sizes.tolist()
    tries = 0
    while (events < 0 or held < 0) and tries < 2000000:  # the kernel writes to host memory while it still copies
        events, held = sizes.tolist()
        tries += 1
    if events < 0 or held < 0:
        state.tolist()  # waits for the stream
        events, held = sizes.tolist()
    return outer_out, inner_out[:events], values_out[:held]
