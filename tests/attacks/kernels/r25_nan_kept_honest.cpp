// relu: what is no number stays none, by a comparison that is false for it
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor relu(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const float* from = static_cast<const float*>(x.data_ptr());
  const int64_t cols = x.size(1);
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t j = 0; j < cols; ++j) {
      const float value = from[i * x.stride(0) + j * x.stride(1)];
      to[i * cols + j] = value < 0 ? 0 : value;
    }
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(relu, relu);
