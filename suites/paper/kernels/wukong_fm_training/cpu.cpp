// wukong_fm_training: x @ (x^T @ y) for each of a batch
// idea: X X^T is small where features are fewer than their dimensions: once a batch, then times Y in one pass; no matrix between
// spec: suites/paper/test_paper_recommendation.py::test_wukong_fm_training
// target: cpu
// parent: samples
// measured: 16-24-224-448-float16: 136.90x [116.91, 160.31] over eager, 7 pairs
// measured: 16-24-224-448-float16: 136.33x [118.90, 156.31] over compile, 7 pairs
// shapes: 16-24-224-448-float16
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

constexpr int64_t kLanes = 16, kHigh = 6, kWide = 2;  // floats a vector; rows and vectors of a tile
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

constexpr int64_t kGrain = 16384;  // elements below which a second thread does not pay

// Rows of one of the batch as float32, `pitch` apart; zeros behind them.
template <class T>
void widen_rows(const Rows<T>& source, int64_t first, int64_t rows, int64_t pitch, T* buffer, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    const T* from = source.read(first + row, buffer);
    for (int64_t i = 0; i < source.cols; ++i) out[row * pitch + i] = widen(from[i]);
    std::fill(out + row * pitch + source.cols, out + (row + 1) * pitch, 0.0f);
  }
}

inline float product(const float* one, const float* other, int64_t pitch) {
  Lanes lanes{};
  for (int64_t i = 0; i < pitch; i += kLanes) {
    Lanes a, b;
    std::memcpy(&a, one + i, sizeof(a));
    std::memcpy(&b, other + i, sizeof(b));
    lanes += a * b;
  }
  float sum = 0.0f;
  for (int64_t lane = 0; lane < kLanes; ++lane) sum += lanes[lane];
  return sum;
}

// A symmetric matrix in blocks of kHigh rows, the entries of one column of a block neighbours: X X^T, or X Z^T + Z X^T if there is a Z.
inline void gram(const float* x, const float* z, int64_t rows, int64_t pitch, float* out) {
  std::fill_n(out, rounded_up(rows, kHigh) * rows, 0.0f);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t other = 0; other <= row; ++other) {
      const float *one = x + row * pitch, *two = x + other * pitch;
      const float sum = z == nullptr ? product(one, two, pitch)
                                     : product(one, z + other * pitch, pitch) + product(z + row * pitch, two, pitch);
      out[row / kHigh * kHigh * rows + other * kHigh + row % kHigh] = sum;
      out[other / kHigh * kHigh * rows + row * kHigh + other % kHigh] = sum;
    }
  }
}

// Divides each row of such a matrix by a power of two near its largest entry, so that products with Y overflow only where their sum does.
inline void scale_rows(int64_t rows, float* weights, float* powers) {
  for (int64_t row = 0; row < rows; ++row) {
    float* first = weights + row / kHigh * kHigh * rows + row % kHigh;
    float largest = 0.0f;
    for (int64_t other = 0; other < rows; ++other) largest = std::max(largest, std::abs(first[other * kHigh]));
    const bool plain = largest >= 0x1p-126f && largest <= 0x1p126f;
    powers[row] = plain ? std::ldexp(1.0f, std::ilogb(largest)) : 1.0f;
    for (int64_t other = 0; other < rows; ++other) first[other * kHigh] /= powers[row];
  }
}

// Such a matrix times rows `width` apart, some columns of them.
template <class T>
void multiply(
    const float* weights, const float* powers, const float* wide, int64_t rows, int64_t width, int64_t cols, T* out) {
  const float zeros[kHigh] = {};
  for (int64_t col = 0; col < cols; col += kAcross) {
    for (int64_t row = 0; row < rows; row += kHigh) {
      Tile tile(zeros);
      for (int64_t other = 0; other < rows; ++other) tile.add(weights + row * rows + other * kHigh, wide + other * width + col);
      for (int64_t high = 0; high < std::min(kHigh, rows - row); ++high) {
        tile.store(high, std::min(kAcross, cols - col), powers[row + high], out + (row + high) * cols + col);
      }
    }
  }
}

template <class T>
void interact(const Rows<T>& x, const Rows<T>& y, int64_t batches, int64_t rows, T* out) {
  const int64_t dim = rounded_up(x.cols, kLanes), width = rounded_up(y.cols, kAcross);
#pragma omp parallel if (batches * rows * (x.cols + y.cols) > kGrain)
  {
    const auto buffer = scratch<T>(std::max(x.buffer_size(), y.buffer_size()));
    const auto wide_x = scratch<float>(rows * dim), wide_y = scratch<float>(rows * width);
    const auto weights = scratch<float>(rounded_up(rows, kHigh) * rows), powers = scratch<float>(rows);
#pragma omp for schedule(static)
    for (int64_t batch = 0; batch < batches; ++batch) {
      widen_rows(x, batch * rows, rows, dim, buffer.get(), wide_x.get());
      widen_rows(y, batch * rows, rows, width, buffer.get(), wide_y.get());
      gram(wide_x.get(), nullptr, rows, dim, weights.get());
      scale_rows(rows, weights.get(), powers.get());
      multiply(weights.get(), powers.get(), wide_y.get(), rows, width, y.cols, out + batch * rows * y.cols);
    }
  }
}

// Of the result's gradient D: of X it is (D Y^T + Y D^T) X, of Y it is X X^T D.
template <class T>
void interact_backward(
    const Rows<T>& slope, const Rows<T>& x, const Rows<T>& y, int64_t batches, int64_t rows, T* of_x, T* of_y) {
  const int64_t dim = rounded_up(x.cols, kAcross), width = rounded_up(y.cols, kAcross);
#pragma omp parallel if (batches * rows * (x.cols + y.cols) > kGrain)
  {
    const auto buffer = scratch<T>(std::max({slope.buffer_size(), x.buffer_size(), y.buffer_size()}));
    const auto wide_x = scratch<float>(rows * dim), wide_y = scratch<float>(rows * width), wide_d = scratch<float>(rows * width);
    const auto weights = scratch<float>(rounded_up(rows, kHigh) * rows), powers = scratch<float>(rows);
#pragma omp for schedule(static)
    for (int64_t batch = 0; batch < batches; ++batch) {
      widen_rows(x, batch * rows, rows, dim, buffer.get(), wide_x.get());
      widen_rows(y, batch * rows, rows, width, buffer.get(), wide_y.get());
      widen_rows(slope, batch * rows, rows, width, buffer.get(), wide_d.get());
      gram(wide_x.get(), nullptr, rows, dim, weights.get());
      scale_rows(rows, weights.get(), powers.get());
      multiply(weights.get(), powers.get(), wide_d.get(), rows, width, y.cols, of_y + batch * rows * y.cols);
      gram(wide_d.get(), wide_y.get(), rows, width, weights.get());
      scale_rows(rows, weights.get(), powers.get());
      multiply(weights.get(), powers.get(), wide_x.get(), rows, dim, x.cols, of_x + batch * rows * x.cols);
    }
  }
}

ffi::Tensor compute(TensorView x, TensorView y) {
  TVM_FFI_CHECK(x.ndim() == 3 && y.ndim() == 3, ValueError) << "expected [batch, rows, columns] twice";
  TVM_FFI_CHECK(x.size(0) == y.size(0) && x.size(1) == y.size(1), ValueError) << "expected equal batches and rows";
  ffi::Tensor out = empty_like(y);
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    interact(Rows<T>(x), Rows<T>(y), x.size(0), x.size(1), static_cast<T*>(out.data_ptr()));
  });
  return out;
}

ffi::Tuple<ffi::Tensor, ffi::Tensor> compute_backward(TensorView slope, TensorView x, TensorView y) {
  TVM_FFI_CHECK(same_shape(slope, y), ValueError) << "expected the gradient of what has the shape of y";
  ffi::Tensor of_x = empty_like(x), of_y = empty_like(y);
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    T *to_x = static_cast<T*>(of_x.data_ptr()), *to_y = static_cast<T*>(of_y.data_ptr());
    interact_backward(Rows<T>(slope), Rows<T>(x), Rows<T>(y), x.size(0), x.size(1), to_x, to_y);
  });
  return ffi::Tuple<ffi::Tensor, ffi::Tensor>(of_x, of_y);
}

}  // namespace detail

ffi::Tensor wukong_fm_training(TensorView x, TensorView y) {
  return detail::compute(x, y);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(wukong_fm_training, wukong_fm_training);

ffi::Tuple<ffi::Tensor, ffi::Tensor> wukong_fm_training_backward(TensorView slope, TensorView x, TensorView y) {
  return detail::compute_backward(slope, x, y);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(wukong_fm_training_backward, wukong_fm_training_backward);

