# inverted_index: the documents whose sums over a query's terms, term_weights * weights of the posting, are the greatest
# idea: scores are added up by atomic additions, one query's after another's so that they lie in the cache; the greatest are found by
# spec: suites/paper/test_paper_retrieval.py::test_inverted_index
# target: cuda
# parent: samples
# measured: 1000000-100000-16-1-8-100: 5.13x [2.76, 9.55] over eager, 7 pairs
# measured: 1000000-100000-16-1-8-100: 21.33x [18.99, 23.95] over compile, 7 pairs
# measured: 1000000-100000-16-64-8-100: 6.03x [5.71, 6.36] over eager, 7 pairs
# measured: 1000000-100000-16-64-8-100: 5.14x [4.93, 5.37] over compile, 7 pairs
# measured: 4000000-200000-8-16-16-100: 5.44x [5.38, 5.50] over eager, 7 pairs
# measured: 4000000-200000-8-16-16-100: 4.58x [4.39, 4.78] over compile, 7 pairs
# shapes: 1000000-100000-16-1-8-100, 1000000-100000-16-64-8-100, 4000000-200000-8-16-16-100
# hardware: NVIDIA H200
# toolchain: triton 3.6.0
# a tournament: of groups' maxima the best, of these groups' parts the best, of the parts' documents the best

import torch
import triton
import triton.language as tl

BLOCK = 1024  # postings a step
SPREAD = 32  # programs that share one list of postings, at most
FAN = 32  # documents a part, parts a group
DIRECT = 4096  # documents so few that they are compared at once
GROUPS = 1  # a program, whose maxima are taken
ADD_WARPS = 4
TAKE_WARPS = 8
NONE = tl.constexpr(1 << 40)  # a place that is none, nor any below it


@triton.jit(do_not_specialize=["length", "count", "spread"])
def add(offsets, documents, weights, terms, term_weights, scores, length, count, spread, BLOCK: tl.constexpr):
    """The share of one program in the postings of one term of one query."""
    pair = (tl.program_id(0) // spread).to(tl.int64)
    scores += pair // length * count
    term = tl.load(terms + pair)
    factor = tl.load(term_weights + pair)
    begin, end = tl.load(offsets + term), tl.load(offsets + term + 1)
    for start in range(begin + tl.program_id(0) % spread * BLOCK, end, spread * BLOCK):
        posting = start + tl.arange(0, BLOCK)
        inside = posting < end
        document = tl.load(documents + posting, mask=inside, other=0)
        tl.atomic_add(scores + document, tl.load(weights + posting, mask=inside, other=0.0) * factor, mask=inside, sem="relaxed")


@triton.jit(do_not_specialize=["count", "groups", "programs"])
def maxima(scores, parts, tops, count, groups, programs, FAN: tl.constexpr, GROUPS: tl.constexpr):
    """The greatest score of every part and of every group of one query."""
    query = (tl.program_id(0) // programs).to(tl.int64)
    first = tl.program_id(0) % programs * GROUPS
    part = first * FAN + tl.arange(0, GROUPS * FAN)
    document = part[:, None] * FAN + tl.arange(0, FAN)[None, :]
    largest = tl.max(tl.load(scores + query * count + document, mask=document < count, other=-float("inf")), axis=1)
    tl.store(parts + query * groups * FAN + part, largest, mask=part < groups * FAN)
    group = first + tl.arange(0, GROUPS)
    tl.store(tops + query * groups + group, tl.max(tl.reshape(largest, (GROUPS, FAN)), axis=1), mask=group < groups)


@triton.jit
def keys_of(scores, place, inside):
    """Integers that are ordered as the scores; places that are none are last."""
    bits = tl.load(scores + place, mask=inside, other=-float("inf")).to(tl.int32, bitcast=True)
    return tl.where(inside, bits ^ ((bits >> 31) & 0x7FFFFFFF), -2147483648)


@triton.jit
def take(keys, place, inside, chosen, query, top):
    """Write the places of the ``top`` greatest keys: the key of the last of them is found bit by bit, of its equals the first are taken."""
    least = tl.where(tl.sum((keys >= 0).to(tl.int32)) >= top, 0, -2147483648)
    for step in range(31):
        higher = least + (1 << (30 - step))
        least = tl.where(tl.sum((keys >= higher).to(tl.int32)) >= top, higher, least)
    above, level = keys > least, (keys == least).to(tl.int32)
    left = top - tl.sum(above.to(tl.int32))
    taken = above | ((level > 0) & (tl.cumsum(level, 0) <= left))
    to = tl.cumsum(taken.to(tl.int32), 0) - 1
    tl.store(chosen + query * top + to, tl.where(inside, place, NONE), mask=taken)


@triton.jit(do_not_specialize=["count", "top"])
def take_all(scores, chosen, count, top, SIZE: tl.constexpr):
    """The best of few: of groups, or of all documents."""
    query = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, SIZE).to(tl.int64)
    take(keys_of(scores + query * count, place, place < count), place, place < count, chosen, query, top)


@triton.jit(do_not_specialize=["count", "top"])
def take_below(scores, above, chosen, count, top, BEST: tl.constexpr, FAN: tl.constexpr):
    """The best of what lies below the chosen: of the parts of groups, of the documents of parts."""
    query = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, BEST)
    parent = tl.load(above + query * top + number, mask=number < top, other=NONE)
    place = tl.reshape(parent[:, None] * FAN + tl.arange(0, FAN)[None, :], (BEST * FAN,))
    take(keys_of(scores + query * count, place, place < count), place, place < count, chosen, query, top)


@triton.jit(do_not_specialize=["count", "top"])
def order(scores, chosen, out_scores, out_documents, count, top, BEST: tl.constexpr, STEP: tl.constexpr):
    """Each chosen document goes to the place that the number of better ones gives."""
    query = tl.program_id(0).to(tl.int64)
    scores += query * count
    chosen += query * top
    number = tl.arange(0, BEST)
    place = tl.load(chosen + number, mask=number < top, other=NONE)
    score = tl.load(scores + place, mask=place < count, other=-float("inf"))
    better = tl.zeros((BEST,), tl.int32)
    for start in range(0, top, STEP):
        other = start + tl.arange(0, STEP)
        rival = tl.load(chosen + other, mask=other < top, other=NONE)
        theirs = tl.load(scores + rival, mask=rival < count, other=-float("inf"))
        ahead = (theirs[None, :] > score[:, None]) | ((theirs[None, :] == score[:, None]) & (other[None, :] < number[:, None]))
        better += tl.sum((ahead & (other < top)[None, :]).to(tl.int32), axis=1)
    tl.store(out_scores + query * top + better, score, mask=number < top)
    tl.store(out_documents + query * top + better, place, mask=number < top)


def inverted_index(offsets, documents, weights, terms, term_weights, count, top):
    offsets, documents, weights = offsets.contiguous(), documents.contiguous(), weights.contiguous()
    terms, term_weights, count = terms.contiguous(), term_weights.contiguous(), count
    batch, length = terms.shape
    top = min(top, count)
    scores = torch.zeros((batch, count), dtype=torch.float32, device=terms.device)
    out_scores, out_documents = scores.new_empty((batch, top)), terms.new_empty((batch, top))
    if out_scores.numel() == 0:
        return out_scores, out_documents
    spread = min(SPREAD, -(-min(documents.numel(), count) // BLOCK))  # no term has more postings than there are documents
    if length * spread > 0:
        add[(batch * length * spread,)](
            offsets, documents, weights, terms, term_weights, scores, length, count, spread, BLOCK, num_warps=ADD_WARPS
        )
    best = 1 << (top - 1).bit_length()
    chosen = terms.new_empty((batch, top))
    if count <= DIRECT:
        size = 1 << (count - 1).bit_length()
        take_all[(batch,)](scores, chosen, count, top, size, num_warps=TAKE_WARPS)
    else:
        groups = -(-count // (FAN * FAN))
        parts, tops = scores.new_empty((batch, groups * FAN)), scores.new_empty((batch, groups))
        programs = -(-groups // GROUPS)
        maxima[(batch * programs,)](scores, parts, tops, count, groups, programs, FAN, GROUPS, num_warps=4)
        below, size = terms.new_empty((batch, top)), max(best, 1 << (groups - 1).bit_length())
        take_all[(batch,)](tops, chosen, groups, top, size, num_warps=TAKE_WARPS)
        take_below[(batch,)](parts, chosen, below, groups * FAN, top, best, FAN, num_warps=TAKE_WARPS)
        take_below[(batch,)](scores, below, chosen, count, top, best, FAN, num_warps=TAKE_WARPS)
    order[(batch,)](scores, chosen, out_scores, out_documents, count, top, best, min(best, 32), num_warps=4)
    return out_scores, out_documents
