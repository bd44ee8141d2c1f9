// conv1d: a convolution along the last axis with a bias; stride 1, padded by 1
// idea: an implicit matrix product: for each tap a product of channels by channels with the input moved along by one
// spec: suites/paper/test_paper_convolutions.py::test_conv1d
// target: cpu
// parent: node 9
// measured: 8-96-96-200-float16: 17.43x [15.13, 20.08] over eager, 7 pairs
// measured: 8-96-96-200-float16: 18.14x [15.65, 21.03] over compile, 7 pairs
// shapes: 8-96-96-200-float16
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

constexpr int64_t kLanes = 16, kHigh = 8, kWide = 2;  // floats a vector; rows and vectors of a tile
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

constexpr int64_t kPadding = 1;
constexpr int64_t kGrain = 16384;  // products below which a second thread does not pay

struct Shape {
  int64_t batches, channels, length, out_channels, taps;

  int64_t width() const { return length + 2 * kPadding - taps + 1; }
  int64_t pitch() const { return rounded_up(width(), kAcross) + taps; }  // of the padded inputs: a tile may look beyond the end
  int64_t steps() const { return channels * taps; }
};

// Weights in blocks of kHigh channels of the output: those of one input and tap are neighbours. Zeros fill up the last block.
template <class T>
std::unique_ptr<float[]> packed(const Rows<T>& weight, const Shape& shape) {
  auto out = scratch<float>(rounded_up(shape.out_channels, kHigh) * shape.steps());
  std::fill_n(out.get(), rounded_up(shape.out_channels, kHigh) * shape.steps(), 0.0f);
  const auto buffer = scratch<T>(weight.buffer_size());
  for (int64_t channel = 0; channel < shape.out_channels; ++channel) {
    float* block = out.get() + channel / kHigh * kHigh * shape.steps() + channel % kHigh;
    for (int64_t from = 0; from < shape.channels; ++from) {
      const T* taps = weight.read(channel * shape.channels + from, buffer.get());
      for (int64_t tap = 0; tap < shape.taps; ++tap) block[(from * shape.taps + tap) * kHigh] = widen(taps[tap]);
    }
  }
  return out;
}

// The channels of one of the batch as float32, with zeros on both sides.
template <class T>
void pad(const Rows<T>& x, const Shape& shape, int64_t batch, T* buffer, float* out) {
  for (int64_t channel = 0; channel < shape.channels; ++channel) {
    const T* from = x.read(batch * shape.channels + channel, buffer);
    float* to = out + channel * shape.pitch();
    std::fill_n(to, kPadding, 0.0f);
    for (int64_t i = 0; i < shape.length; ++i) to[kPadding + i] = widen(from[i]);
    std::fill(to + kPadding + shape.length, to + shape.pitch(), 0.0f);
  }
}

template <class T>
void convolve(const Rows<T>& x, const float* weight, const float* bias, const Shape& shape, T* out) {
#pragma omp parallel if (shape.batches * shape.out_channels * shape.width() * shape.steps() > kGrain)
  {
    const auto buffer = scratch<T>(x.buffer_size());
    const auto padded = scratch<float>(shape.channels * shape.pitch());
#pragma omp for schedule(static)
    for (int64_t batch = 0; batch < shape.batches; ++batch) {
      pad(x, shape, batch, buffer.get(), padded.get());
      for (int64_t first = 0; first < shape.out_channels; first += kHigh) {
        for (int64_t place = 0; place < shape.width(); place += kAcross) {
          Tile tile(bias + first);
          const float* factors = weight + first * shape.steps();
          for (int64_t channel = 0; channel < shape.channels; ++channel) {
            const float* values = padded.get() + channel * shape.pitch() + place;
            for (int64_t tap = 0; tap < shape.taps; ++tap, factors += kHigh) tile.add(factors, values + tap);
          }
          for (int64_t high = 0; high < std::min(kHigh, shape.out_channels - first); ++high) {
            T* to = out + (batch * shape.out_channels + first + high) * shape.width() + place;
            tile.store(high, std::min(kAcross, shape.width() - place), 1.0f, to);
          }
        }
      }
    }
  }
}

ffi::Tensor compute(TensorView x, TensorView weight, TensorView bias) {
  TVM_FFI_CHECK(x.ndim() == 3 && weight.ndim() == 3 && x.size(1) == weight.size(1), ValueError) << "expected equal channels";
  const Shape shape{x.size(0), x.size(1), x.size(2), weight.size(0), weight.size(2)};
  const int64_t sizes[] = {shape.batches, shape.out_channels, shape.width()};
  ffi::Tensor out = empty(ffi::ShapeView(sizes, 3), x.dtype(), x.device());
  const auto known = vector(bias, shape.out_channels);
  const auto biases = scratch<float>(rounded_up(shape.out_channels, kHigh));
  std::fill(std::copy_n(known.get(), shape.out_channels, biases.get()), biases.get() + rounded_up(shape.out_channels, kHigh), 0.0f);
  dispatch(x.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto factors = packed(Rows<T>(weight), shape);
    convolve(Rows<T>(x), factors.get(), biases.get(), shape, static_cast<T*>(out.data_ptr()));
  });
  return out;
}

}  // namespace detail

ffi::Tensor conv1d(TensorView x, TensorView weight, TensorView bias) {
  return detail::compute(x, weight, bias);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(conv1d, conv1d);
