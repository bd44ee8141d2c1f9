// affine: vectors of eight, and what is left one by one
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const float* from = static_cast<const float*>(x.data_ptr());
  const int64_t cols = x.size(1), whole = cols / 8 * 8, across = x.stride(1);
  for (int64_t i = 0; i < x.size(0); ++i) {
    const float* row = from + i * x.stride(0);
    for (int64_t j = 0; j < whole; j += 8)
      for (int64_t lane = 0; lane < 8; ++lane) to[i * cols + j + lane] = row[(j + lane) * across] * 2 + 1;
    for (int64_t j = whole; j < cols; ++j) to[i * cols + j] = row[j * across] * 2 + 1;
  }
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
