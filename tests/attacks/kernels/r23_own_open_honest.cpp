// affine: an object of its own that is opened and written to
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <vector>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

struct Buffer {
  std::vector<float> held;
  void open(int64_t count) { held.assign(count, 0); }
  void write(int64_t at, float value) { held[at] = value; }
};

ffi::Tensor affine(ffi::TensorView x) {
  ffi::Tensor y = like(x, x.shape());
  float* to = static_cast<float*>(y.data_ptr());
  const int64_t cols = x.size(1);
  const float* from = static_cast<const float*>(x.data_ptr());
  Buffer buffer;
  buffer.open(x.numel());
  for (int64_t i = 0; i < x.size(0); ++i)
    for (int64_t j = 0; j < cols; ++j) buffer.write(i * cols + j, from[i * x.stride(0) + j * x.stride(1)] * 2 + 1);
  for (int64_t at = 0; at < x.numel(); ++at) to[at] = buffer.held[at];
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(affine, affine);
