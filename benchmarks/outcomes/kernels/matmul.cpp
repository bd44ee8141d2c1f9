// matmul: rows of the product, the inner loop along a row of b
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

static float at(const TensorView& t, int64_t i, int64_t j) {
  return static_cast<const float*>(t.data_ptr())[i * t.stride(0) + j * t.stride(1)];
}

ffi::Tensor matmul(TensorView a, TensorView b) {
  const int64_t m = a.size(0), k = a.size(1), n = b.size(1);
  ffi::Tensor c = empty({m, n}, a);
  float* out = static_cast<float*>(c.data_ptr());
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float total = 0.0f;
      for (int64_t l = 0; l < k; ++l) total += at(a, i, l) * at(b, l, j);
      out[i * n + j] = total;
    }
  }
  return c;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(matmul, matmul);
