// gelu: one loop
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

static float widen(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  __builtin_memcpy(&value, &wide, 4);
  return value;
}

static uint16_t narrow(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, 4);
  if (value != value) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

static float half(uint16_t bits) {
  _Float16 value;
  __builtin_memcpy(&value, &bits, 2);
  return static_cast<float>(value);
}

static uint16_t to_half(float value) {
  const _Float16 small = static_cast<_Float16>(value);
  uint16_t bits;
  __builtin_memcpy(&bits, &small, 2);
  return bits;
}

static float activate(float value) { return 0.5f * value * (1.0f + std::erf(value * 0.70710678f)); }

ffi::Tensor gelu(TensorView x) {
  const int64_t rows = x.size(0), cols = x.size(1);
  ffi::Tensor result = empty({rows, cols}, x);
  const bool wide = x.dtype().bits == 32, brain = x.dtype().code == kDLBfloat;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const int64_t from = i * x.stride(0) + j * x.stride(1), to = i * cols + j;
      if (wide) {
        static_cast<float*>(result.data_ptr())[to] = activate(static_cast<const float*>(x.data_ptr())[from]);
      } else {
        const uint16_t bits = static_cast<const uint16_t*>(x.data_ptr())[from];
        static_cast<uint16_t*>(result.data_ptr())[to] = brain ? narrow(activate(widen(bits))) : to_half(activate(half(bits)));
      }
    }
  }
  return result;
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(gelu, gelu);
