// rms_norm: x / sqrt(mean(x^2) + eps) * weight over the last axis
// idea: one block a row, four warps; each thread keeps its part of the sum, warps add up by shuffles, the row is read a second time from L1
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;
namespace {

constexpr int kThreads = 128;
constexpr float kEpsilon = 1e-6f;

__device__ float widen(float value) { return value; }
__device__ float widen(__half value) { return __half2float(value); }
__device__ float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ void narrow(float value, float* out) { *out = value; }
__device__ void narrow(float value, __half* out) { *out = __float2half_rn(value); }
__device__ void narrow(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

// The sum over the block, in every thread.
__device__ float block_sum(float value) {
  __shared__ float partial[kThreads / 32];
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(0xffffffffu, value, step);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0;
  for (float part : partial) total += part;
  return total;
}

template <class Element>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const Element* x, int64_t x_row, int64_t x_col, const Element* weight, int64_t w_col, Element* out, int64_t cols) {
  const Element* row = x + blockIdx.x * x_row;
  float sum = 0;
  for (int64_t col = threadIdx.x; col < cols; col += kThreads) {
    const float value = widen(row[col * x_col]);
    sum += value * value;
  }
  const float scale = rsqrtf(block_sum(sum) / static_cast<float>(cols) + kEpsilon);
  for (int64_t col = threadIdx.x; col < cols; col += kThreads) {
    narrow(widen(row[col * x_col]) * scale * widen(weight[col * w_col]), out + blockIdx.x * cols + col);
  }
}

template <class Element>
void launch(const ffi::TensorView& x, const ffi::TensorView& weight, const ffi::Tensor& out) {
  const auto stream = static_cast<cudaStream_t>(TVMFFIEnvGetStream(x.device().device_type, x.device().device_id));
  rows_kernel<Element><<<static_cast<unsigned>(x.size(0)), kThreads, 0, stream>>>(
      static_cast<const Element*>(x.data_ptr()), x.stride(0), x.stride(1), static_cast<const Element*>(weight.data_ptr()),
      weight.stride(0), static_cast<Element*>(out.data_ptr()), x.size(1));
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) TVM_FFI_THROW(RuntimeError) << cudaGetErrorString(error);
}

ffi::Tensor rms_norm(ffi::TensorView x, ffi::TensorView weight) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  if (x.numel() == 0) return out;
  const DLDataType dtype = x.dtype();
  if (dtype.code == kDLFloat && dtype.bits == 32) {
    launch<float>(x, weight, out);
  } else if (dtype.code == kDLFloat && dtype.bits == 16) {
    launch<__half>(x, weight, out);
  } else if (dtype.code == kDLBfloat && dtype.bits == 16) {
    launch<__nv_bfloat16>(x, weight, out);
  } else {
    TVM_FFI_THROW(TypeError) << "expected float32, float16 or bfloat16";
  }
  return out;
}

}  // namespace
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm, rms_norm);
