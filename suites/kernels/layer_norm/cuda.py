# layer_norm: Layer normalisation
# idea: several short rows a tile, long ones block by block
# spec: suites/test_norms.py::test_layer_norm
# target: cuda
# parent: lowering
# measured: 16384-4096-bfloat16: 1.50x [1.49, 1.50] over eager, 7 pairs
# measured: 16384-4096-bfloat16: 1.35x [1.34, 1.36] over compile, 7 pairs
# measured: 262144-128-float32: 5.50x [5.48, 5.52] over eager, 7 pairs
# measured: 262144-128-float32: 0.99x [0.94, 1.04] over compile, 7 pairs
# shapes: 16384-4096-bfloat16, 262144-128-float32
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
def layer_norm_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr
):
    # return functional.layer_norm(x, (x.shape[-1],), weight, bias, LAYER_EPS)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    col = tl.arange(0, COLS)[None, :]
    place = row * cols + col
    inside = (row < rows) & (col < cols)
    x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
    mean_sum = tl.sum(x, axis=1, keep_dims=True)
    mean = mean_sum / cols
    difference = x - mean
    squares = tl.sum(tl.where(col < cols, difference * difference, 0.0), axis=1, keep_dims=True)
    weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
    tl.store(out_ptr + place, difference * tl.rsqrt(squares / cols + 1e-05) * weight + bias, mask=inside)


@triton.jit(do_not_specialize=["rows"])
def layer_norm_long_kernel(
    x_ptr, weight_ptr, bias_ptr, out_ptr, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr
):
    # return functional.layer_norm(x, (x.shape[-1],), weight, bias, LAYER_EPS)
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    mean_sum_lanes = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, cols, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        inside = (row < rows) & (col < cols)
        x = tl.load(x_ptr + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        mean_sum_lanes += x
    mean_sum = tl.sum(mean_sum_lanes, axis=1, keep_dims=True)
    squares_lanes = tl.zeros((ROWS, COLS), tl.float32)
    mean = mean_sum / cols
    for start in range(0, cols, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        inside = (row < rows) & (col < cols)
        x = tl.load(x_ptr + row * cols + col, mask=inside, other=0.0).to(tl.float32)
        difference = x - mean
        squares_lanes += tl.where(col < cols, difference * difference, 0.0)
    squares = tl.sum(squares_lanes, axis=1, keep_dims=True)
    scale = tl.rsqrt(squares / cols + 1e-05)
    for start in range(0, cols, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        place = row * cols + col
        inside = (row < rows) & (col < cols)
        x = tl.load(x_ptr + place, mask=inside, other=0.0).to(tl.float32)
        weight = tl.load(weight_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
        bias = tl.load(bias_ptr + col, mask=col < cols, other=0.0).to(tl.float32)
        tl.store(out_ptr + place, (x - mean) * scale * weight + bias, mask=inside)


def layer_norm(x, weight, bias):
    rows, cols = x.shape
    for name, tensor, dtype, shape in (("weight", weight, x.dtype, (cols,)), ("bias", bias, x.dtype, (cols,))):
        if tensor.dtype != dtype or tensor.shape != shape:
            raise ValueError(f"{name}: expected {dtype} {shape}, got {tensor.dtype} {tuple(tensor.shape)}")
    x, weight, bias = x.contiguous(), weight.contiguous(), bias.contiguous()
    out = torch.empty((rows, cols), dtype=x.dtype, device=x.device)
    col_block = side(ROW_TILE, cols)
    row_block = ROW_TILE // col_block
    if col_block >= cols:
        layer_norm_kernel[(triton.cdiv(rows, row_block),)](
            x, weight, bias, out, rows, cols, row_block, col_block, num_warps=ROW_WARPS
        )
    else:
        layer_norm_long_kernel[(triton.cdiv(rows, row_block),)](
            x, weight, bias, out, rows, cols, row_block, col_block, num_warps=ROW_WARPS
        )
    return out
