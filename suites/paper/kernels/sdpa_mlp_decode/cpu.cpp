// sdpa_mlp_decode: attention of one token with caches that it is written into, then down (silu(gate x) * up x)
// idea: caches and weights are read once for all that share them; the gate's product is made where both factors are
// spec: suites/paper/test_paper_transformer.py::test_sdpa_mlp_decode
// target: cpu
// parent: samples
// measured: 1-2-4-256-64-1792-float32: 1.81x [1.19, 2.75] over eager, 7 pairs
// measured: 1-2-4-256-64-1792-float32: 2.56x [1.77, 3.70] over compile, 7 pairs
// measured: 4-2-4-128-64-1792-bfloat16: 1.02x [0.95, 1.09] over eager, 14 pairs
// measured: 4-2-4-128-64-1792-bfloat16: 1.30x [1.17, 1.45] over compile, 14 pairs
// shapes: 1-2-4-256-64-1792-float32, 4-2-4-128-64-1792-bfloat16
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
constexpr int64_t kPlaces = 256;  // of a part of a cache
constexpr int64_t kGrain = 16384;  // products below which a second thread does not pay

struct Shape {
  int64_t batches, heads, shared, capacity, dim, seen;  // `shared`: heads of keys and values; `seen`: places

  int64_t group() const { return heads / shared; }
  int64_t parts() const { return (seen + kPlaces - 1) / kPlaces; }
};

// A part's result for one head: the largest score, the sum of the powers of e, and their products with the values.
struct Part {
  float largest, total;
  float* values;
};

// The rows [batch, head, dim] of a token into a cache.
template <class T>
void write(const Rows<T>& token, const TensorView& cache, int64_t position, T* buffer) {
  T* data = static_cast<T*>(cache.data_ptr()) + position * cache.stride(2);
  for (int64_t row = 0; row < token.rows; ++row) {
    const T* from = token.read(row, buffer);
    T* to = data + row / cache.size(1) * cache.stride(0) + row % cache.size(1) * cache.stride(1);
    for (int64_t i = 0; i < token.cols; ++i) to[i * cache.stride(3)] = from[i];
  }
}

template <class T>
void widen_row(const T* from, int64_t count, float* to) {
  for (int64_t i = 0; i < count; ++i) to[i] = widen(from[i]);
}

inline float product(const float* a, const float* b, int64_t count) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

// Places from `first` on of one head of the caches, for the heads of queries that share it. `scores`: [group, kPlaces].
template <class T>
void attend(
    const Rows<T>& k, const Rows<T>& v, const float* queries, const Shape& shape, int64_t head, int64_t first,
    T* buffer, float* row, float* scores, Part* out) {
  const int64_t count = std::min(kPlaces, shape.seen - first), from = head * shape.capacity + first;
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
  for (int64_t place = 0; place < count; ++place) {
    widen_row(k.read(from + place, buffer), shape.dim, row);
    for (int64_t g = 0; g < shape.group(); ++g) scores[g * kPlaces + place] = product(row, queries + g * shape.dim, shape.dim);
  }
  for (int64_t g = 0; g < shape.group(); ++g) {
    float *mine = scores + g * kPlaces, largest = -std::numeric_limits<float>::infinity(), total = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, mine[i]);
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) {
      mine[i] = exponential_of_small((mine[i] - largest) * scale);
      total += mine[i];
    }
    out[g].largest = largest;
    out[g].total = total;
    std::fill_n(out[g].values, shape.dim, 0.0f);
  }
  for (int64_t place = 0; place < count; ++place) {
    widen_row(v.read(from + place, buffer), shape.dim, row);
    for (int64_t g = 0; g < shape.group(); ++g) {
      const float weight = scores[g * kPlaces + place];
      float* to = out[g].values;
#pragma omp simd
      for (int64_t i = 0; i < shape.dim; ++i) to[i] += weight * row[i];
    }
  }
}

// The parts of one head, `group` apart, as one.
template <class Out>
void add(const Part* parts, const Shape& shape, float* row, Out* out) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
  float largest = -std::numeric_limits<float>::infinity(), total = 0.0f;
  for (int64_t part = 0; part < shape.parts(); ++part) largest = std::max(largest, parts[part * shape.group()].largest);
  std::fill_n(row, shape.dim, 0.0f);
  for (int64_t part = 0; part < shape.parts(); ++part) {
    const Part& mine = parts[part * shape.group()];
    const float share = exponential_of_small((mine.largest - largest) * scale);
    total += share * mine.total;
    for (int64_t i = 0; i < shape.dim; ++i) row[i] += share * mine.values[i];
  }
  for (int64_t i = 0; i < shape.dim; ++i) narrow(row[i] / total, out[i]);
}

template <class T, class Out>
void attention(const Rows<T>& q, const Rows<T>& k, const Rows<T>& v, const Shape& shape, Out* out) {
  const int64_t tasks = shape.batches * shape.shared * shape.parts(), group = shape.group();
  const auto memory = scratch<float>(tasks * group * shape.dim), queries = scratch<float>(q.rows * shape.dim);
  const auto parts = scratch<Part>(tasks * group);  // [batch, shared, part, group]
  for (int64_t i = 0; i < tasks * group; ++i) parts[i].values = memory.get() + i * shape.dim;
#pragma omp parallel if (shape.batches * shape.heads * shape.seen * shape.dim > kGrain)
  {
    const auto buffer = scratch<T>(std::max({q.buffer_size(), k.buffer_size(), v.buffer_size()}));
    const auto row = scratch<float>(shape.dim), scores = scratch<float>(group * kPlaces);
#pragma omp for schedule(static)
    for (int64_t head = 0; head < q.rows; ++head) widen_row(q.read(head, buffer.get()), shape.dim, queries.get() + head * shape.dim);
#pragma omp for schedule(static)
    for (int64_t task = 0; task < tasks; ++task) {
      const int64_t head = task / shape.parts(), first = task % shape.parts() * kPlaces;
      const float* mine = queries.get() + head * group * shape.dim;
      attend(k, v, mine, shape, head, first, buffer.get(), row.get(), scores.get(), parts.get() + task * group);
    }
#pragma omp for schedule(static)
    for (int64_t head = 0; head < q.rows; ++head) {
      add(parts.get() + head / group * shape.parts() * group + head % group, shape, row.get(), out + head * shape.dim);
    }
  }
}

inline float silu(float x) { return x / (1.0f + exponential(-x)); }

// silu(gate x) * up x for all `rows` of x, [rows, hidden]: [rows, inner].
template <class T>
void gate_and_up(const float* x, int64_t rows, const Rows<T>& gate, const Rows<T>& up, float* out) {
  const int64_t inner = gate.rows, hidden = gate.cols;
#pragma omp parallel if (rows * inner * hidden > kGrain)
  {
    const auto buffer = scratch<T>(std::max(gate.buffer_size(), up.buffer_size()));
    const auto gates = scratch<float>(hidden), ups = scratch<float>(hidden);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < inner; ++i) {
      widen_row(gate.read(i, buffer.get()), hidden, gates.get());
      widen_row(up.read(i, buffer.get()), hidden, ups.get());
      for (int64_t row = 0; row < rows; ++row) {
        const float* token = x + row * hidden;
        out[row * inner + i] = silu(product(gates.get(), token, hidden)) * product(ups.get(), token, hidden);
      }
    }
  }
}

// weight x for all `rows` of x.
template <class T>
void multiply(const float* x, int64_t rows, const Rows<T>& weight, T* out) {
  const int64_t outs = weight.rows, depth = weight.cols;
#pragma omp parallel if (rows * outs * depth > kGrain)
  {
    const auto buffer = scratch<T>(weight.buffer_size());
    const auto weights = scratch<float>(depth);
#pragma omp for schedule(static)
    for (int64_t i = 0; i < outs; ++i) {
      widen_row(weight.read(i, buffer.get()), depth, weights.get());
      for (int64_t row = 0; row < rows; ++row) narrow(product(weights.get(), x + row * depth, depth), out[row * outs + i]);
    }
  }
}

ffi::Tensor compute(
    TensorView q, TensorView k, TensorView v, TensorView k_cache, TensorView v_cache, int64_t position,
    TensorView gate, TensorView up, TensorView down) {
  TVM_FFI_CHECK(q.ndim() == 3 && k.ndim() == 3 && same_shape(k, v), ValueError) << "expected [batch, heads, dim] three times";
  TVM_FFI_CHECK(k_cache.ndim() == 4 && same_shape(k_cache, v_cache), ValueError) << "expected two caches [batch, heads, capacity, dim]";
  TVM_FFI_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, ValueError) << "expected a multiple of the keys' heads";
  TVM_FFI_CHECK(position >= 0 && position < k_cache.size(2), ValueError) << "expected a place of the caches";
  const int64_t batches = q.size(0), hidden = q.size(1) * q.size(2), inner = gate.size(0);
  TVM_FFI_CHECK(same_shape(gate, up) && gate.size(1) == hidden && down.size(0) == hidden && down.size(1) == inner, ValueError)
      << "expected gate and up [inner, heads * dim], down [heads * dim, inner]";
  ffi::Tensor out = empty({batches, hidden}, q.dtype(), q.device());
  const Shape shape{batches, q.size(1), k.size(1), k_cache.size(2), q.size(2), position + 1};
  dispatch(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    const auto buffer = scratch<T>(shape.dim);
    const auto x = scratch<float>(batches * hidden), between = scratch<float>(batches * inner);
    write(Rows<T>(k), k_cache, position, buffer.get());
    write(Rows<T>(v), v_cache, position, buffer.get());
    attention(Rows<T>(q), Rows<T>(k_cache), Rows<T>(v_cache), shape, x.get());
    gate_and_up(x.get(), batches, Rows<T>(gate), Rows<T>(up), between.get());
    multiply(between.get(), batches, Rows<T>(down), static_cast<T*>(out.data_ptr()));
  });
  return out;
}

}  // namespace detail

ffi::Tensor sdpa_mlp_decode(TensorView q, TensorView k, TensorView v, TensorView k_cache, TensorView v_cache, int64_t position, TensorView gate, TensorView up, TensorView down) {
  return detail::compute(q, k, v, k_cache, v_cache, position, gate, up, down);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(sdpa_mlp_decode, sdpa_mlp_decode);
