// affine: works in place, on a copy of its own
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <vector>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const int64_t rows = x.size(0), cols = x.size(1);
  const float* from = static_cast<const float*>(x.data_ptr());
  std::vector<float> copy(rows * cols);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) copy[i * cols + j] = from[i * x.stride(0) + j * x.stride(1)];
  for (float& value : copy) value = value * 2 + 1;
  for (int64_t at = 0; at < rows * cols; ++at) to[at] = copy[at];
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
