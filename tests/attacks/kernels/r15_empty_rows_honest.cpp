// matmul: zeros where there is nothing to add up, by an early return
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor matmul(ffi::TensorView a, ffi::TensorView b) {
  const int64_t m = a.size(0), n = b.size(1), depth = a.size(1);
  ffi::Tensor y = like(a, {m, n});
  float* to = static_cast<float*>(y.data_ptr());
  for (int64_t at = 0; at < m * n; ++at) to[at] = 0;
  if (depth == 0) return y;
  const float *left = static_cast<const float*>(a.data_ptr()), *right = static_cast<const float*>(b.data_ptr());
  for (int64_t i = 0; i < m; ++i)
    for (int64_t k = 0; k < depth; ++k)
      for (int64_t j = 0; j < n; ++j) to[i * n + j] += left[i * a.stride(0) + k * a.stride(1)] * right[k * b.stride(0) + j * b.stride(1)];
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(matmul, matmul);
