// conv1d: every output element by itself
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace ffi = tvm::ffi;
using ffi::TensorView;

static ffi::Tensor empty(ffi::ShapeView shape, const TensorView& like) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, like.dtype(), like.device());
}

ffi::Tensor conv1d(TensorView x, TensorView weight) {
  const int64_t batch = x.size(0), cin = x.size(1), length = x.size(2), cout = weight.size(0);
  ffi::Tensor result = empty({batch, cout, length}, x);
  const float* in = static_cast<const float*>(x.data_ptr());
  const float* taps = static_cast<const float*>(weight.data_ptr());
  float* out = static_cast<float*>(result.data_ptr());
#pragma omp parallel for collapse(2) schedule(static)
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t o = 0; o < cout; ++o) {
      for (int64_t l = 0; l < length; ++l) {
        float total = 0.0f;
        for (int64_t c = 0; c < cin; ++c) {
          for (int64_t t = 0; t < 3; ++t) {
            const int64_t place = l + t - 1;
            if (place < 0 || place >= length) continue;
            total += in[b * x.stride(0) + c * x.stride(1) + place * x.stride(2)] *
                     taps[o * weight.stride(0) + c * weight.stride(1) + t * weight.stride(2)];
          }
        }
        out[(b * cout + o) * length + l] = total;
      }
    }
  }
  return result;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(conv1d, conv1d);
