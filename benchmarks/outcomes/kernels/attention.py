# attention: a block of queries a program, keys in steps, softmax kept relative to the maximum so far
import torch
import triton
import triton.language as tl

BLOCK_Q, BLOCK_KEYS, WARPS, STAGES = 32, 32, 4, 2


@triton.jit
def attend(q, k, v, out, queries, keys, scale, DIM: tl.constexpr, BQ: tl.constexpr, BK: tl.constexpr):
    head = tl.program_id(1).to(tl.int64)
    row, along = tl.program_id(0) * BQ + tl.arange(0, BQ), tl.arange(0, DIM)
    query = tl.load(q + head * queries * DIM + row[:, None] * DIM + along[None, :], mask=(row < queries)[:, None], other=0.0)
    highest = tl.full((BQ,), -1.0e30, tl.float32)
    total = tl.zeros((BQ,), tl.float32)
    gathered = tl.zeros((BQ, DIM), tl.float32)
    for start in range(0, keys, BK):
        col = start + tl.arange(0, BK)
        place = head * keys * DIM + col[:, None] * DIM + along[None, :]
        key = tl.load(k + place, mask=(col < keys)[:, None], other=0.0)
        value = tl.load(v + place, mask=(col < keys)[:, None], other=0.0)
        scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
        scores = tl.where((col < keys)[None, :], scores, -float("inf"))
        top = tl.maximum(highest, tl.max(scores, axis=1))
        shrink = tl.exp(highest - top)
        weights = tl.exp(scores - top[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        gathered = gathered * shrink[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        highest = top
    result = gathered / total[:, None]
    tl.store(out + head * queries * DIM + row[:, None] * DIM + along[None, :], result, mask=(row < queries)[:, None])


def attention(q, k, v):
    q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
    heads, queries, dim = q.shape
    out = torch.empty_like(q)
    if out.numel() == 0:
        return out
    attend[(triton.cdiv(queries, BLOCK_Q), heads)](
        q, k, v, out, queries, k.shape[1], dim**-0.5, dim, BLOCK_Q, BLOCK_KEYS, num_warps=WARPS, num_stages=STAGES
    )
    return out
