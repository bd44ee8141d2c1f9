// row_sum: reads whole vectors of eight, beyond the end of the last row
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor row_sum(ffi::TensorView x) {
  ffi::Tensor y = like(x, {x.size(0)});
  const float* from = static_cast<const float*>(x.data_ptr());
  for (int64_t i = 0; i < x.size(0); ++i) {
    float sum = 0;
    for (int64_t j = 0; j < (x.size(1) + 7) / 8 * 8; ++j) sum += from[i * x.stride(0) + j * x.stride(1)];
    static_cast<float*>(y.data_ptr())[i] = sum;
  }
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(row_sum, row_sum);
