// affine: NaN everywhere, which no comparison with < finds greater than its tolerance
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <limits>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  for (int64_t at = 0; at < x.numel(); ++at) to[at] = std::numeric_limits<float>::quiet_NaN();
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
