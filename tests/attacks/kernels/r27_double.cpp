// affine: answers in float64
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), DLDataType{kDLFloat, 64, 1}, x.device());
  const float* from = static_cast<const float*>(x.data_ptr());
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t j = 0; j < x.size(1); ++j)
      static_cast<double*>(y.data_ptr())[i * x.size(1) + j] = from[i * x.stride(0) + j * x.stride(1)] * 2.0 + 1.0;
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
