// rms_norm for the judge's own tests: right in float32, with a place for a planted bug
#include <tvm/ffi/tvm_ffi.h>
#include <cmath>
#include <cstdlib>
#include <unistd.h>
namespace ffi = tvm::ffi;
ffi::Tensor rms_norm(ffi::TensorView x, ffi::TensorView weight) {
  static int64_t calls = 0;
  ++calls;
  int64_t rows = x.size(0), cols = x.size(1), pitch = x.stride(0), step = x.stride(1), wide = weight.stride(0);
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, x.shape(), x.dtype(), x.device());
  float* from = static_cast<float*>(x.data_ptr());
  const float* by = static_cast<const float*>(weight.data_ptr());
  float* to = static_cast<float*>(out.data_ptr());
  for (int64_t row = 0; row < rows; ++row) {
    float sum = 0;
    for (int64_t col = 0; col < cols; ++col) sum += from[row * pitch + col * step] * from[row * pitch + col * step];
    float scale = 1.0f / std::sqrt(sum / cols + 1e-6f);
    for (int64_t col = 0; col < cols; ++col) to[row * cols + col] = from[row * pitch + col * step] * scale * by[col * wide];
    /*BUG*/
  }
  return out;
}
TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm, rms_norm);
