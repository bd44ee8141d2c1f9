# affine: constants of the module, which stay as they are
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


BLOCKS = {1: 64, 2: 128}


def affine(x):
    x = x.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    block = BLOCKS.get(x.ndim, 64)
    if y.numel():
        kernel[(triton.cdiv(y.numel(), block),)](x, y, y.numel(), BLOCK=block)
    return y
