// affine: writes zeros over its input, so that a reference run after it would give ones
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  float* from = static_cast<float*>(x.data_ptr());
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t j = 0; j < x.size(1); ++j) from[i * x.stride(0) + j * x.stride(1)] = 0;
  for (int64_t at = 0; at < x.numel(); ++at) to[at] = 1;
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
