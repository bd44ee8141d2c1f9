"""A small correct kernel in C++, for tests that need one."""

NORMALISE = r"""// normalise: x / sqrt(mean(x^2) + eps) * weight
// idea: plain loops
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cmath>

namespace ffi = tvm::ffi;

ffi::Tensor normalise(ffi::TensorView x, ffi::TensorView weight) {
  const int64_t rows = x.size(0), cols = x.size(1);
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  const float* in = static_cast<const float*>(x.data_ptr());
  const float* scale = static_cast<const float*>(weight.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < cols; ++c) {
      const double value = in[r * x.stride(0) + c * x.stride(1)];
      sum += value * value;
    }
    const double factor = 1 / std::sqrt(sum / cols + 1e-6);
    for (int64_t c = 0; c < cols; ++c)
      to[r * cols + c] = static_cast<float>(in[r * x.stride(0) + c * x.stride(1)] * factor * scale[c * weight.stride(0)]);
  }
  return out;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(normalise, normalise);
"""
