// pffn: rms(rms(gelu(x @ w1 + b1)) * norm1 @ w2 + b2) * norm2 for each of a batch
// idea: a tile of rows goes through both layers at once: what lies between them is never written
// spec: suites/paper/test_paper_interformer.py::test_pffn
// target: cpu
// parent: samples
// measured: 4-200-256-160-float16: 29.39x [21.24, 40.67] over eager, 7 pairs
// measured: 4-200-256-160-float16: 29.55x [21.35, 40.89] over compile, 7 pairs
// measured: 4-200-256-160-bfloat16: 4.11x [3.17, 5.33] over eager, 7 pairs
// measured: 4-200-256-160-bfloat16: 1.34x [0.83, 2.16] over compile, 7 pairs
// measured: 8-150-96-192-float16: 26.98x [12.99, 56.02] over eager, 7 pairs
// measured: 8-150-96-192-float16: 23.55x [11.20, 49.50] over compile, 7 pairs
// measured: 8-150-96-192-bfloat16: 4.69x [2.00, 10.97] over eager, 7 pairs
// measured: 8-150-96-192-bfloat16: 2.29x [1.03, 5.13] over compile, 7 pairs
// shapes: 4-200-256-160-float16, 4-200-256-160-bfloat16, 8-150-96-192-float16, 8-150-96-192-bfloat16
// hardware: AMD EPYC
// toolchain: compiler g++ (Debian 12.2.0-14+deb12u1) 12.2.0, flags -std=c++17 -O3 -march=native -fopenmp -fPIC -shared, tvm_ffi 0.1.15.post2, cpu AMD EPYC 0c31b8d6
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
// For x from -86.9 to 88.72, where float32 ends: relative error at most 2e-7; 0 below -86.9; NaN for NaN. Not for x above 89.
inline float exponential_of_small(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  const float shifted = std::fma(x, 1.44269504f, kShift);
  const float whole = shifted - kShift;
  // ln 2 in two parts: 0.693145752f has so few bits that whole times it is exact
  const float rest = std::fma(whole, -1.42860677e-6f, std::fma(whole, -0.693145752f, x));
  float p = std::fma(rest, 1.98756915e-4f, 1.39819995e-3f);
  p = std::fma(p, rest, 8.33345191e-3f);
  p = std::fma(p, rest, 4.16657959e-2f);
  p = std::fma(p, rest, 1.66666655e-1f);
  p = std::fma(p, rest, 5.00000012e-1f);
  p = std::fma(p, rest * rest, rest) + 1.0f;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits << 23) + 0x3f000000u;  // of 2^(n-1): 2^128 is no float32, though p times it may be one
  float power;
  std::memcpy(&power, &bits, sizeof(power));
  return x < -86.9f ? 0.0f : (p + p) * power;
}

// The same for any x: infinity above 88.72.
inline float exponential(float x) {
  const float value = exponential_of_small(x);
  return x > 88.73f ? std::numeric_limits<float>::infinity() : value;
}
constexpr int64_t kLanes = 16, kHigh = 6, kWide = 3;  // floats a vector; rows and vectors of a tile
typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));

struct Tile {
  Lanes sums[kHigh][kWide];

  explicit Tile(const float* first) {
    for (int64_t high = 0; high < kHigh; ++high) {
      for (int64_t wide = 0; wide < kWide; ++wide) sums[high][wide] = first[high] - Lanes{};
    }
  }

  // One step of the sums: a column of factors times a row of values, wherever that begins.
  void add(const float* factors, const float* values) {
#pragma GCC unroll 8
    for (int64_t wide = 0; wide < kWide; ++wide) {
      Lanes part;
      std::memcpy(&part, values + wide * kLanes, sizeof(part));
#pragma GCC unroll 8
      for (int64_t high = 0; high < kHigh; ++high) sums[high][wide] += factors[high] * part;
    }
  }

  // `count` of the sums of a row, each times `scale`.
  template <class T>
  void store(int64_t high, int64_t count, float scale, T* out) const {
    float row[kWide * kLanes];
    std::memcpy(row, sums[high], sizeof(row));
    for (int64_t i = 0; i < count; ++i) narrow(row[i] * scale, out[i]);
  }
};

constexpr int64_t kAcross = kWide * kLanes;

inline int64_t rounded_up(int64_t size, int64_t to) { return (size + to - 1) / to * to; }

constexpr float kEps = 1e-06;
constexpr int64_t kGrain = 16384;  // products below which a second thread does not pay

// x * (1 + erf(x / sqrt(2))) / 2, by erfc(z) = t * e^(-z^2 + p(t)), t = 1 / (1 + z / 2): relative error at most 1.2e-7 (Press et al.,
// Numerical Recipes, section 6.2), no branch, so that loops over it vectorise.
inline float gelu(float x) {
  const float z = std::abs(x) * 0.707106781f, t = 1.0f / (1.0f + 0.5f * z);
  float p = std::fma(t, 0.17087277f, -0.82215223f);
  p = std::fma(p, t, 1.48851587f);
  p = std::fma(p, t, -1.13520398f);
  p = std::fma(p, t, 0.27886807f);
  p = std::fma(p, t, -0.18628806f);
  p = std::fma(p, t, 0.09678418f);
  p = std::fma(p, t, 0.37409196f);
  p = std::fma(p, t, 1.00002368f);
  p = std::fma(p, t, -1.26551223f);
  const float half = 0.5f * t * exponential_of_small(std::fma(-0.5f * x, x, p));  // erfc(z) / 2
  return x * (x < 0.0f ? half : 1.0f - half);
}

struct Shape {
  int64_t batches, rows, dim, hidden;

  int64_t dim_pitch() const { return rounded_up(dim, kAcross); }
  int64_t hidden_pitch() const { return rounded_up(hidden, kAcross); }
};

// `rows` rows as float32, `pitch` apart, zeros behind them.
template <class T>
void widen_rows(const Rows<T>& source, int64_t first, int64_t rows, int64_t pitch, T* buffer, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = source.read(first + row, buffer);
    for (int64_t i = 0; i < source.cols; ++i) out[row * pitch + i] = widen(from[i]);
    std::fill(out + row * pitch + source.cols, out + (row + 1) * pitch, 0.0f);
  }
}

// kHigh rows of a layer's input, the elements of one column neighbours, times its weights.
inline void multiply(const float* columns, const float* weight, int64_t depth, int64_t pitch, float* out) {
  const float zeros[kHigh] = {};
  for (int64_t col = 0; col < pitch; col += kAcross) {
    Tile tile(zeros);
    for (int64_t step = 0; step < depth; ++step) tile.add(columns + step * kHigh, weight + step * pitch + col);
    for (int64_t high = 0; high < kHigh; ++high) tile.store(high, kAcross, 1.0f, out + high * pitch + col);
  }
}

inline float scale_of(const float* values, int64_t count) {
  float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
  for (int64_t i = 0; i < count; ++i) squares += values[i] * values[i];
  return 1.0f / std::sqrt(squares / static_cast<float>(count) + kEps);
}

template <class T>
struct Network {
  Rows<T> x, w1, b1, w2, b2;
  const float *norm1, *norm2;
  Shape shape;
};

// What one thread works in.
template <class T>
struct Room {
  std::unique_ptr<T[]> buffer;
  std::unique_ptr<float[]> w1, b1, w2, b2, columns, between, sums;

  explicit Room(const Network<T>& net) {
    const Shape& shape = net.shape;
    const int64_t widest = std::max(shape.dim, shape.hidden), pitch = std::max(shape.dim_pitch(), shape.hidden_pitch());
    buffer = scratch<T>(widest);
    w1 = scratch<float>(shape.dim * shape.hidden_pitch());
    b1 = scratch<float>(shape.hidden_pitch());
    w2 = scratch<float>(shape.hidden * shape.dim_pitch());
    b2 = scratch<float>(shape.dim_pitch());
    columns = scratch<float>(shape.dim * kHigh);
    between = scratch<float>(shape.hidden * kHigh);
    sums = scratch<float>(kHigh * pitch);
  }

  void read_weights(const Network<T>& net, int64_t batch) {
    const Shape& shape = net.shape;
    widen_rows(net.w1, batch * shape.dim, shape.dim, shape.hidden_pitch(), buffer.get(), w1.get());
    widen_rows(net.b1, batch, 1, shape.hidden_pitch(), buffer.get(), b1.get());
    widen_rows(net.w2, batch * shape.hidden, shape.hidden, shape.dim_pitch(), buffer.get(), w2.get());
    widen_rows(net.b2, batch, 1, shape.dim_pitch(), buffer.get(), b2.get());
  }

  // The first layer of `count` rows from `row` of all on: into `between`, column by column.
  void first_layer(const Network<T>& net, int64_t row, int64_t count) {
    const Shape& shape = net.shape;
    std::fill_n(columns.get(), shape.dim * kHigh, 0.0f);
    for (int64_t high = 0; high < count; ++high) {
      const T* from = net.x.read(row + high, buffer.get());
      for (int64_t i = 0; i < shape.dim; ++i) columns[i * kHigh + high] = widen(from[i]);
    }
    multiply(columns.get(), w1.get(), shape.dim, shape.hidden_pitch(), sums.get());
    for (int64_t high = 0; high < kHigh; ++high) {
      float* values = sums.get() + high * shape.hidden_pitch();
#pragma omp simd
      for (int64_t i = 0; i < shape.hidden; ++i) values[i] = gelu(values[i] + b1[i]);
      const float scale = scale_of(values, shape.hidden);
      for (int64_t i = 0; i < shape.hidden; ++i) between[i * kHigh + high] = values[i] * scale * net.norm1[i];
    }
  }

  void second_layer(const Network<T>& net, int64_t count, T* out) {
    const Shape& shape = net.shape;
    multiply(between.get(), w2.get(), shape.hidden, shape.dim_pitch(), sums.get());
    for (int64_t high = 0; high < count; ++high) {
      float* values = sums.get() + high * shape.dim_pitch();
#pragma omp simd
      for (int64_t i = 0; i < shape.dim; ++i) values[i] += b2[i];
      const float scale = scale_of(values, shape.dim);
#pragma omp simd
      for (int64_t i = 0; i < shape.dim; ++i) narrow(values[i] * scale * net.norm2[i], out[high * shape.dim + i]);
    }
  }
};

template <class T>
void forward(const Network<T>& net, T* out) {
  const Shape& shape = net.shape;
#pragma omp parallel if (shape.batches * shape.rows * shape.dim * shape.hidden > kGrain)
  {
    Room<T> room(net);
#pragma omp for schedule(static)
    for (int64_t batch = 0; batch < shape.batches; ++batch) {
      room.read_weights(net, batch);
      for (int64_t row = 0; row < shape.rows; row += kHigh) {
        const int64_t count = std::min(kHigh, shape.rows - row), place = batch * shape.rows + row;
        room.first_layer(net, place, count);
        room.second_layer(net, count, out + place * shape.dim);
      }
    }
  }
}

inline void expect(const TensorView& tensor, int64_t batches, int64_t rows, int64_t cols) {
  const bool right = tensor.ndim() == 3 && tensor.size(0) == batches && tensor.size(1) == rows && tensor.size(2) == cols;
  TVM_FFI_CHECK(right, ValueError) << "expected [" << batches << ", " << rows << ", " << cols << "]";
}

inline void expect(const TensorView& tensor, int64_t batches, int64_t cols) {
  const bool right = tensor.ndim() == 2 && tensor.size(0) == batches && tensor.size(1) == cols;
  TVM_FFI_CHECK(right, ValueError) << "expected [" << batches << ", " << cols << "]";
}

ffi::Tensor compute(TensorView x, TensorView w1, TensorView b1, TensorView norm1, TensorView w2, TensorView b2, TensorView norm2) {
  TVM_FFI_CHECK(x.ndim() == 3 && w1.ndim() == 3, ValueError) << "expected [batch, rows, dim] and [batch, dim, hidden]";
  const Shape shape{x.size(0), x.size(1), x.size(2), w1.size(2)};
  expect(w1, shape.batches, shape.dim, shape.hidden);
  expect(b1, shape.batches, shape.hidden);
  expect(w2, shape.batches, shape.hidden, shape.dim);
  expect(b2, shape.batches, shape.dim);
  ffi::Tensor out = empty_like(x);
  const auto gain1 = vector(norm1, shape.hidden), gain2 = vector(norm2, shape.dim);
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const Network<T> net{Rows<T>(x), Rows<T>(w1), Rows<T>(b1), Rows<T>(w2), Rows<T>(b2), gain1.get(), gain2.get(), shape};
    forward(net, static_cast<T*>(out.data_ptr()));
  });
  return out;
}

}  // namespace detail

ffi::Tensor pffn(TensorView x, TensorView w1, TensorView b1, TensorView norm1, TensorView w2, TensorView b2, TensorView norm2) {
  return detail::compute(x, w1, b1, norm1, w2, b2, norm2);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(pffn, pffn);
