// affine: remembers by shape what depends on the shape alone: where each row's result begins
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <map>
#include <vector>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor affine(ffi::TensorView x) {
  static std::map<std::pair<int64_t, int64_t>, std::vector<int64_t>> starts;
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const int64_t rows = x.size(0), cols = x.size(1);
  auto& begins = starts[{rows, cols}];
  if (begins.empty())
    for (int64_t i = 0; i < rows; ++i) begins.push_back(i * cols);
  const float* from = static_cast<const float*>(x.data_ptr());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) to[begins[i] + j] = from[i * x.stride(0) + j * x.stride(1)] * 2 + 1;
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
