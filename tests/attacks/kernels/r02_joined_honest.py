# affine: two launches, each of one half, both on the stream that it is given
import torch
import triton
import triton.language as tl


@triton.jit
def kernel(x, y, count, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < count, other=0.0)
    tl.store(y + at, value * 2 + 1, mask=at < count)


def launched(x):
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel():
        kernel[(triton.cdiv(y.numel(), 256),)](x, y, y.numel(), BLOCK=256)
    return y


def affine(x):
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    flat, out, half = x.view(-1), y.view(-1), y.numel() // 2
    for begin, end in ((0, half), (half, y.numel())):
        if end > begin:
            kernel[(triton.cdiv(end - begin, 256),)](flat[begin:end], out[begin:end], end - begin, BLOCK=256)
    return y
