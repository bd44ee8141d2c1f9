// rms_norm_2d_backward: with s = 1 / sqrt(mean(x^2) + eps) and g = dy * weight:
// idea: the row sums with the row in cache; dweight summed in blocks of rows, by thread, so that float32 rounding does not build up
// spec: suites/paper/test_paper_norms.py::test_rms_norm_2d_backward
// target: cpu
// parent: node 21
// measured: 512-4096-bfloat16: 11.16x [9.91, 12.57] over eager, 7 pairs
// measured: 512-4096-bfloat16: 1.67x [1.55, 1.79] over compile, 7 pairs
// shapes: 512-4096-bfloat16
// hardware: AMD EPYC
// toolchain: compiler g++ (Debian 12.2.0-14+deb12u1) 12.2.0, flags -std=c++17 -O3 -march=native -fopenmp -fPIC -shared, tvm_ffi 0.1.15.post2, cpu AMD EPYC 0c31b8d6
//   dx = s (g - x s mean(g x s)) over the last axis, dweight = sum over rows of dy x s
#include <omp.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

namespace ffi = tvm::ffi;
using ffi::TensorView;
namespace detail {

struct Bfloat16 {
  uint16_t bits;
};

struct Float16 {  // not _Float16, which g++ has since 12 and clang++ since 15
  uint16_t bits;
};

inline float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float widen(float value) { return value; }
inline float widen(Bfloat16 value) { return as_float(static_cast<uint32_t>(value.bits) << 16); }
inline float widen(Float16 value) {  // a multiplication moves the exponent, of subnormals too
  const uint32_t sign = (value.bits & 0x8000u) << 16, rest = (value.bits & 0x7fffu) << 13;
  const uint32_t finite = as_bits(as_float(rest) * 0x1p112f);
  return as_float(sign | (rest < 0x0f800000u ? finite : rest | 0x7f800000u));
}

// To the nearest, ties to even; NaN stays NaN.
inline void narrow(float value, float& out) { out = value; }
inline void narrow(float value, Bfloat16& out) {
  const uint32_t bits = as_bits(value), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}
inline void narrow(float value, Float16& out) {
  const uint32_t bits = as_bits(value), rest = bits & 0x7fffffffu;
  const uint32_t normal = std::min(((rest + 0xfffu + ((rest >> 13) & 1u)) >> 13) - (112u << 10), 0x7c00u);
  const uint32_t subnormal = as_bits(as_float(rest) + 0.5f) - as_bits(0.5f);  // the spacing at 0.5 is theirs
  const uint32_t size = rest < 0x38800000u ? subnormal : normal;
  out.bits = static_cast<uint16_t>(((bits >> 16) & 0x8000u) | (value != value ? 0x7e00u : size));
}

// Calls `body` with a zero of the element type.
template <class Body>
void dispatch(DLDataType dtype, const Body& body) {
  if (dtype.code == kDLFloat && dtype.bits == 32) return body(float());
  if (dtype.code == kDLBfloat && dtype.bits == 16) return body(Bfloat16());
  if (dtype.code == kDLFloat && dtype.bits == 16) return body(Float16());
  TVM_FFI_THROW(TypeError) << "expected float32, bfloat16 or float16";
}

// Memory that is not cleared.
template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

// A tensor of any rank and layout, as rows along its last axis.
template <class T>
class Rows {
 public:
  int64_t rows = 1, cols = 1;

  explicit Rows(const TensorView& tensor) : tensor_(tensor), data_(static_cast<const T*>(tensor.data_ptr())) {
    const int64_t rank = tensor.ndim();
    if (rank > 0) cols = tensor.size(rank - 1);
    if (cols > 1) step_ = tensor.stride(rank - 1);
    if (rank > 1) pitch_ = tensor.stride(rank - 2);
    for (int64_t axis = 0; axis < rank - 1; ++axis) rows *= tensor.size(axis);
    for (int64_t axis = 0; axis < rank - 2; ++axis) {
      regular_ = regular_ && tensor.stride(axis) == tensor.stride(axis + 1) * tensor.size(axis + 1);
    }
  }

  // Elements that the buffer given to `read` must hold.
  int64_t buffer_size() const { return step_ == 1 ? 0 : cols; }

  // A row: where it lies if its elements are neighbours, else copied into `buffer`.
  const T* read(int64_t row, T* buffer) const { return read(row, 0, cols, buffer); }

  // `count` elements of a row from column `first` on.
  const T* read(int64_t row, int64_t first, int64_t count, T* buffer) const {
    const T* source = data_ + offset(row) + first * step_;
    if (step_ == 1) return source;
    for (int64_t i = 0; i < count; ++i) buffer[i] = source[i * step_];
    return buffer;
  }

 private:
  int64_t offset(int64_t row) const {
    if (regular_) return row * pitch_;
    int64_t at = 0;
    for (int64_t axis = tensor_.ndim() - 2; axis >= 0; --axis) {
      at += row % tensor_.size(axis) * tensor_.stride(axis);
      row /= tensor_.size(axis);
    }
    return at;
  }

  TensorView tensor_;
  const T* data_;
  int64_t step_ = 1, pitch_ = 0;
  bool regular_ = true;  // one pitch from row to row
};

// One row of `cols` elements of any dtype, as float32.
inline std::unique_ptr<float[]> vector(const TensorView& tensor, int64_t cols) {
  TVM_FFI_CHECK(tensor.ndim() == 1 && tensor.size(0) == cols, ValueError) << "expected one element a column";
  auto values = scratch<float>(cols);
  dispatch(tensor.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> source(tensor);
    const auto buffer = scratch<T>(source.buffer_size());
    const T* row = source.read(0, buffer.get());
    for (int64_t i = 0; i < cols; ++i) values[i] = widen(row[i]);
  });
  return values;
}

inline bool same_shape(const TensorView& a, const TensorView& b) {
  return a.ndim() == b.ndim() && std::equal(a.shape().begin(), a.shape().end(), b.shape().begin());
}

inline ffi::Tensor empty(ffi::ShapeView shape, DLDataType dtype, DLDevice device) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, dtype, device);
}

inline ffi::Tensor empty_like(const TensorView& tensor) {
  return empty(tensor.shape(), tensor.dtype(), tensor.device());
}

constexpr float kEps = 1e-06;
constexpr int64_t kBlockRows = 32;  // rows summed into one block of dweight
constexpr int64_t kGrain = 65536;  // elements below which a second thread does not pay

// Adds `block` to `total` and clears it.
inline void flush(float* total, float* block, int64_t cols) {
#pragma omp simd
  for (int64_t i = 0; i < cols; ++i) {
    total[i] += block[i];
    block[i] = 0.0f;
  }
}

template <class T>
void gradients(const Rows<T>& dy, const Rows<T>& x, const float* weight, T* dx, float* dweight) {
  const int64_t rows = x.rows, cols = x.cols;
  const bool threaded = rows * cols > kGrain;
  const int64_t threads = threaded ? omp_get_max_threads() : 1;
  const auto partial = std::make_unique<float[]>(threads * cols);  // a row of sums a thread, added up in order
#pragma omp parallel num_threads(threads) if (threaded)
  {
    const auto dy_buffer = scratch<T>(dy.buffer_size()), x_buffer = scratch<T>(x.buffer_size());
    const auto block_owner = std::make_unique<float[]>(cols);
    float* const block = block_owner.get();
    float* const total = partial.get() + omp_get_thread_num() * cols;
    int64_t in_block = 0;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      const T* d = dy.read(row, dy_buffer.get());
      const T* in = x.read(row, x_buffer.get());
      T* to = dx + row * cols;
      const float count = static_cast<float>(cols);
      float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
      for (int64_t i = 0; i < cols; ++i) {
        const float value = widen(in[i]);
        squares += value * value;
      }
      const float scale = 1.0f / std::sqrt(squares / count + kEps);
      float dots = 0.0f;  // of normalised values: dy * weight * x itself overflows where the gradient does not
#pragma omp simd reduction(+ : dots)
      for (int64_t i = 0; i < cols; ++i) {
        const float normalised = widen(in[i]) * scale;
        dots += widen(d[i]) * weight[i] * normalised;
      }
      const float shrink = dots / count;
#pragma omp simd
      for (int64_t i = 0; i < cols; ++i) {
        const float normalised = widen(in[i]) * scale, gradient = widen(d[i]);
        block[i] += gradient * normalised;
        narrow(scale * (gradient * weight[i] - normalised * shrink), to[i]);
      }
      if (++in_block == kBlockRows) {
        flush(total, block, cols);
        in_block = 0;
      }
    }
    flush(total, block, cols);
  }
  std::fill_n(dweight, cols, 0.0f);
  for (int64_t thread = 0; thread < threads; ++thread) {
    const float* sums = partial.get() + thread * cols;
    for (int64_t i = 0; i < cols; ++i) dweight[i] += sums[i];
  }
}

ffi::Tuple<ffi::Tensor, ffi::Tensor> compute(TensorView dy, TensorView x, TensorView weight) {
  TVM_FFI_CHECK(dy.dtype() == x.dtype(), TypeError) << "expected one dtype";
  TVM_FFI_CHECK(same_shape(dy, x), ValueError) << "expected one shape";
  ffi::Tensor dx = empty_like(x), dweight = empty(weight.shape(), weight.dtype(), weight.device());
  const int64_t cols = x.size(x.ndim() - 1);
  const auto factors = vector(weight, cols), sums = scratch<float>(cols);
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    gradients(Rows<T>(dy), Rows<T>(x), factors.get(), static_cast<T*>(dx.data_ptr()), sums.get());
  });
  dispatch(weight.dtype(), [&](auto zero) {
    auto* out = static_cast<decltype(zero)*>(dweight.data_ptr());
    for (int64_t i = 0; i < cols; ++i) narrow(sums[i], out[i]);
  });
  return ffi::Tuple<ffi::Tensor, ffi::Tensor>(dx, dweight);
}

}  // namespace detail

ffi::Tuple<ffi::Tensor, ffi::Tensor> rms_norm_2d_backward(TensorView dy, TensorView x, TensorView weight) {
  return detail::compute(dy, x, weight);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(rms_norm_2d_backward, rms_norm_2d_backward);
