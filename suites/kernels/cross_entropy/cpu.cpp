// cross_entropy: mean over rows of log(sum(exp(logits))) - logits[target], and its gradient for the logits
// idea: log-sum-exp of each row in cache, nothing of the size of the logits is stored; the gradient recomputes it
// spec: suites/test_softmaxes.py::test_cross_entropy
// target: cpu
// parent: node 46
// measured: 128-32000-float32: 2.19x [1.73, 2.78] over eager, 7 pairs
// measured: 128-32000-float32: 2.16x [1.86, 2.51] over compile, 7 pairs
// measured: 64-128256-bfloat16: 3.22x [2.79, 3.73] over eager, 7 pairs
// measured: 64-128256-bfloat16: 1.66x [1.51, 1.81] over compile, 7 pairs
// shapes: 128-32000-float32, 64-128256-bfloat16
// hardware: AMD EPYC
// toolchain: compiler g++ (Debian 12.2.0-14+deb12u1) 12.2.0, flags -std=c++17 -O3 -march=native -fopenmp -fPIC -shared, tvm_ffi 0.1.15.post2, cpu AMD EPYC 806a97fa
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

  // `flat`: as one long row, which needs a contiguous tensor.
  explicit Rows(const TensorView& tensor, bool flat = false) : tensor_(tensor), data_(static_cast<const T*>(tensor.data_ptr())) {
    const int64_t rank = tensor.ndim();
    if (flat) {
      cols = tensor.numel();
      return;
    }
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

// e^x by 2^n * p(r), x = n ln 2 + r: no call and no branch, so that loops over it vectorise.
// For x up to 88.7: relative error at most 2e-7; 0 below -87.3; NaN for NaN.
inline float exponential_of_small(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  const float shifted = std::fma(x, 1.44269504f, kShift);
  const float whole = shifted - kShift;
  const float rest = std::fma(whole, 1.42860682e-6f, std::fma(whole, -0.693148613f, x));
  float p = std::fma(rest, 1.98756915e-4f, 1.39819995e-3f);
  p = std::fma(p, rest, 8.33345191e-3f);
  p = std::fma(p, rest, 4.16657959e-2f);
  p = std::fma(p, rest, 1.66666655e-1f);
  p = std::fma(p, rest, 5.00000012e-1f);
  p = std::fma(p, rest * rest, rest) + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + 0x3f800000u;
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < -87.3f ? 0.0f : p * power;
}

// The same for any x: infinity above 88.7.
inline float exponential(float x) {
  const float value = exponential_of_small(x);
  return x > 88.7f ? std::numeric_limits<float>::infinity() : value;
}

constexpr int64_t kIgnored = -100;  // a target that PyTorch leaves out of the mean
constexpr int64_t kChunk = 1024;  // columns of one step of the running log-sum-exp
constexpr int64_t kGrain = 8192;  // elements below which a second thread does not pay

// sum(exp(logits)) of a row, as total * exp(largest): their logarithm alone would lose what is small beside the largest.
struct Powers {
  float largest, total;
};

// In one pass: the sum is kept relative to the largest logit so far.
template <class T>
Powers powers(const T* in, int64_t cols) {
  float largest = -std::numeric_limits<float>::infinity(), total = 0.0f;
  for (int64_t first = 0; first < cols; first += kChunk) {
    const int64_t last = std::min(first + kChunk, cols);
    float largest_here = largest;
#pragma omp simd reduction(max : largest_here)
    for (int64_t i = first; i < last; ++i) largest_here = std::max(largest_here, widen(in[i]));
    float total_here = 0.0f;
#pragma omp simd reduction(+ : total_here)
    for (int64_t i = first; i < last; ++i) total_here += exponential_of_small(widen(in[i]) - largest_here);
    total = (first == 0 ? 0.0f : total * exponential_of_small(largest - largest_here)) + total_here;
    largest = largest_here;
  }
  return {largest, total};
}

struct Targets {
  const int64_t* data;
  int64_t rows, step;

  Targets(const TensorView& target, int64_t rows) : data(static_cast<const int64_t*>(target.data_ptr())), rows(rows) {
    TVM_FFI_CHECK(target.ndim() == 1 && target.size(0) == rows, ValueError) << "expected one target a row";
    step = target.stride(0);
  }

  int64_t operator[](int64_t row) const { return data[row * step]; }

  int64_t counted() const {
    int64_t count = 0;
    for (int64_t row = 0; row < rows; ++row) count += (*this)[row] != kIgnored;
    return count;
  }
};

template <class T>
double sum_of_losses(const Rows<T>& logits, const Targets& target) {
  const int64_t rows = logits.rows, cols = logits.cols;
  double total = 0.0;
#pragma omp parallel if (rows * cols > kGrain) reduction(+ : total)
  {
    const auto buffer = scratch<T>(logits.buffer_size());
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      if (target[row] == kIgnored) continue;
      const T* in = logits.read(row, buffer.get());
      const Powers row_powers = powers(in, cols);
      total += std::log(row_powers.total) + (row_powers.largest - widen(in[target[row]]));
    }
  }
  return total;
}

template <class T>
void gradient(float factor, const Rows<T>& logits, const Targets& target, T* out) {
  const int64_t rows = logits.rows, cols = logits.cols;
#pragma omp parallel if (rows * cols > kGrain)
  {
    const auto buffer = scratch<T>(logits.buffer_size());
#pragma omp for schedule(static)
    for (int64_t row = 0; row < rows; ++row) {
      T* to = out + row * cols;
      if (target[row] == kIgnored) {
        std::memset(static_cast<void*>(to), 0, cols * sizeof(T));
        continue;
      }
      const T* in = logits.read(row, buffer.get());
      const Powers row_powers = powers(in, cols);
      const float largest = row_powers.largest, inverse = 1.0f / row_powers.total;
#pragma omp simd
      for (int64_t i = 0; i < cols; ++i) narrow(factor * (exponential_of_small(widen(in[i]) - largest) * inverse), to[i]);
      narrow(factor * (exponential_of_small(widen(in[target[row]]) - largest) * inverse - 1.0f), to[target[row]]);
    }
  }
}

ffi::Tensor compute(TensorView logits, TensorView target) {
  ffi::Tensor loss = empty({}, DLDataType{kDLFloat, 32, 1}, logits.device());
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> rows(logits);
    const Targets targets(target, rows.rows);
    const double mean = sum_of_losses(rows, targets) / static_cast<double>(targets.counted());
    narrow(static_cast<float>(mean), *static_cast<float*>(loss.data_ptr()));
  });
  return loss;
}

ffi::Tensor compute_backward(TensorView grad, TensorView logits, TensorView target) {
  ffi::Tensor out = empty_like(logits);
  float upstream = 0.0f;
  dispatch(grad.dtype(), [&](auto zero) { upstream = widen(*static_cast<const decltype(zero)*>(grad.data_ptr())); });
  dispatch(logits.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> rows(logits);
    const Targets targets(target, rows.rows);
    gradient(upstream / static_cast<float>(targets.counted()), rows, targets, static_cast<T*>(out.data_ptr()));
  });
  return out;
}

}  // namespace detail

ffi::Tensor cross_entropy(TensorView logits, TensorView target) {
  return detail::compute(logits, target);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(cross_entropy, cross_entropy);

ffi::Tensor cross_entropy_backward(TensorView grad_loss, TensorView logits, TensorView target) {
  return detail::compute_backward(grad_loss, logits, target);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(cross_entropy_backward, cross_entropy_backward);
