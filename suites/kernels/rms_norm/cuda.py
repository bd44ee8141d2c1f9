# rms_norm: Root-mean-square normalisation, computed in float32 as in Llama
# idea: several short rows a tile, long ones block by block
# spec: suites/test_norms.py::test_rms_norm
# target: cuda
# parent: lowering
# measured: 8192-4096-float32: 4.40x [4.38, 4.41] over eager, 7 pairs
# measured: 8192-4096-float32: 0.96x [0.95, 0.97] over compile, 7 pairs
# measured: 8192-4096-bfloat16: 11.98x [11.89, 12.07] over eager, 7 pairs
# measured: 8192-4096-bfloat16: 1.06x [1.06, 1.07] over compile, 7 pairs
# measured: 131072-256-bfloat16: 12.59x [12.51, 12.67] over eager, 7 pairs
# measured: 131072-256-bfloat16: 1.00x [0.93, 1.07] over compile, 7 pairs
# shapes: 8192-4096-float32, 8192-4096-bfloat16, 131072-256-bfloat16
# hardware: NVIDIA H200
# toolchain: triton 3.6.0

import torch
import triton
import triton.language as tl

# elements of a tile of rows
ROW_TILE = 4096  # tune: 1024, 2048, 4096, 8192, 16384
ROW_WARPS = 8  # tune: 2, 4, 8, 16


def side(most, extent):
    """A power of two, at most ``most``, for a side of a tile; of small ones few, for each is compiled anew."""
    needed = triton.next_power_of_2(max(4, extent))
    return min(most, needed if needed not in (8, 32) else 2 * needed)


@triton.jit(do_not_specialize=["rows"])
def rms_norm_kernel(x_ptr, weight_ptr, out_ptr, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
    # normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_EPS)
    # return (normalised * weight.float()).to(x.dtype)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, COLS)[None, :]
    place = row * cols + col
    inside = (row < rows) & (col < cols)
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    mean_sum = tl.sum(x * x, axis=1, keep_dims=True)
    normalised = x * tl.rsqrt(mean_sum / cols + 1e-06)
    weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, normalised * weight, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def rms_norm_long_kernel(x_ptr, weight_ptr, out_ptr, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
    # normalised = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + RMS_EPS)
    # return (normalised * weight.float()).to(x.dtype)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    mean_sum_lanes = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, cols, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        inside = (row < rows) & (col < cols)
        x = tl.load(x_ptr + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        mean_sum_lanes += x * x
    mean_sum = tl.sum(mean_sum_lanes, axis=1, keep_dims=True)
    scale = tl.rsqrt(mean_sum / cols + 1e-06)
    for start in range(0, cols, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        place = row * cols + col
        inside = (row < rows) & (col < cols)
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        normalised = x * scale
        weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
        tl.store(out_ptr + place, normalised * weight, mask=inside)


def rms_norm(x, weight):
    rows, cols = x.shape
    for name, tensor, dtype, shape in (("weight", weight, x.dtype, (cols,)),):
        if tensor.dtype != dtype or tensor.shape != shape:
            raise ValueError(f"{name}: expected {dtype} {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
    x, weight = x.contiguous(), weight.contiguous()
    out = torch.empty((rows, cols), dtype=x.dtype, device=x.device)
    col_block = side(ROW_TILE, cols)
    row_block = ROW_TILE // col_block
    if col_block >= cols:
        rms_norm_kernel[(triton.cdiv(rows, row_block),)](
            x, weight, out, rows, cols, row_block, col_block, num_warps=ROW_WARPS
        )
    else:
        rms_norm_long_kernel[(triton.cdiv(rows, row_block),)](
            x, weight, out, rows, cols, row_block, col_block, num_warps=ROW_WARPS
        )
    return out
