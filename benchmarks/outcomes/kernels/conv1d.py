# conv1d: a tile of positions and output channels a program, a product for each tap
import torch
import triton
import triton.language as tl

BLOCK_L, BLOCK_O, BLOCK_C, WARPS = 32, 32, 32, 4


@triton.jit
def convolve(x, weight, out, cin, cout, length, BL: tl.constexpr, BO: tl.constexpr, BC: tl.constexpr):
    batch = tl.program_id(0).to(tl.int64)
    place, channel = tl.program_id(1) * BL + tl.arange(0, BL), tl.program_id(2) * BO + tl.arange(0, BO)
    total = tl.zeros((BO, BL), tl.float32)
    for start in range(0, cin, BC):
        source = start + tl.arange(0, BC)
        for tap in tl.static_range(3):
            at = place + tap - 1
            inside = (source < cin)[:, None] & ((at >= 0) & (at < length))[None, :]
            part = tl.load(x + batch * cin * length + source[:, None] * length + at[None, :], mask=inside, other=0.0)
            taps = tl.load(
                weight + channel[:, None] * cin * 3 + source[None, :] * 3 + tap,
                mask=(channel < cout)[:, None] & (source < cin)[None, :],
                other=0.0,
            )
            total = tl.dot(taps, part, total, input_precision="ieee")
    tl.store(
        out + batch * cout * length + channel[:, None] * length + place[None, :],
        total,
        mask=(channel < cout)[:, None] & (place < length)[None, :],
    )


def conv1d(x, weight):
    x, weight = x.contiguous(), weight.contiguous()
    batch, cin, length = x.shape
    cout = weight.shape[0]
    out = torch.empty((batch, cout, length), device=x.device, dtype=x.dtype)
    if out.numel() == 0:
        return out
    convolve[(batch, triton.cdiv(length, BLOCK_L), triton.cdiv(cout, BLOCK_O))](
        x, weight, out, cin, cout, length, BLOCK_L, BLOCK_O, BLOCK_C, num_warps=WARPS
    )
    return out
