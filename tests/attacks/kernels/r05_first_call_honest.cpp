// affine: a table made at the first call
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <vector>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  static const std::vector<float> factors = [] {
    std::vector<float> made(2, 2.0f);
    made[1] = 1.0f;
    return made;
  }();
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const float* from = static_cast<const float*>(x.data_ptr());
  const int64_t cols = x.size(1);
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t j = 0; j < cols; ++j) to[i * cols + j] = from[i * x.stride(0) + j * x.stride(1)] * factors[0] + factors[1];
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
