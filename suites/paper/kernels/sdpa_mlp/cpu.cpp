// sdpa_mlp: attention of whole prompts, then down (silu(gate x) * up x), x the heads of a place side by side
// idea: attention writes the heads of a place side by side, as the products read them; silu and the gate's product are one pass
// spec: suites/paper/test_paper_transformer.py::test_sdpa_mlp
// target: cpu
// parent: samples
// measured: 1-2-4-64-64-1792-float32: 1.66x [1.55, 1.79] over eager, 7 pairs
// measured: 1-2-4-64-64-1792-float32: 1.49x [1.09, 2.03] over compile, 7 pairs
// measured: 2-2-4-32-64-1792-bfloat16: 1.20x [0.87, 1.65] over eager, 14 pairs
// measured: 2-2-4-32-64-1792-bfloat16: 1.48x [1.21, 1.82] over compile, 14 pairs
// shapes: 1-2-4-64-64-1792-float32, 2-2-4-32-64-1792-bfloat16
// hardware: AMD EPYC
// toolchain: compiler g++ (Debian 12.2.0-14+deb12u1) 12.2.0, flags -std=c++17 -O3 -march=native -fopenmp -fPIC -shared, tvm_ffi 0.1.15.post2, cpu AMD EPYC 0c31b8d6
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif
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

constexpr int64_t kLanes = 16, kHigh = 6, kWide = 4;  // floats a vector; rows and vectors of a tile
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
constexpr int64_t kGrain = 16384;  // products below which a second thread does not pay

struct Shape {
  int64_t batches, heads, shared, length, dim;  // `shared`: heads of keys and values

  int64_t pitch() const { return rounded_up(length, kAcross); }
  int64_t width() const { return rounded_up(dim, kAcross); }
  int64_t blocks() const { return (length + kHigh - 1) / kHigh; }
};

// One head's keys with places side by side, [dim, pitch]; zeros behind them.
template <class T>
void pack_keys(const Rows<T>& k, const Shape& shape, int64_t head, T* buffer, float* out) {
  std::fill_n(out, shape.dim * shape.pitch(), 0.0f);
  for (int64_t place = 0; place < shape.length; ++place) {
    const T* from = k.read(head * shape.length + place, buffer);
    for (int64_t i = 0; i < shape.dim; ++i) out[i * shape.pitch() + place] = widen(from[i]);
  }
}

// One head's values, [length, width]; zeros behind each row.
template <class T>
void pack_values(const Rows<T>& v, const Shape& shape, int64_t head, T* buffer, float* out) {
  for (int64_t place = 0; place < shape.length; ++place) {
    const T* from = v.read(head * shape.length + place, buffer);
    float* to = out + place * shape.width();
    for (int64_t i = 0; i < shape.dim; ++i) to[i] = widen(from[i]);
    std::fill(to + shape.dim, to + shape.width(), 0.0f);
  }
}

// Turns a row of scores into powers of e, kHigh apart, and returns their sum; zeros from `seen` to `end`.
inline float powers(const float* scores, int64_t seen, int64_t end, float scale, float* out) {
  float largest = -std::numeric_limits<float>::infinity(), total = 0.0f;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < seen; ++i) largest = std::max(largest, scores[i]);
#pragma omp simd reduction(+ : total)
  for (int64_t i = 0; i < seen; ++i) {
    const float power = exponential_of_small((scores[i] - largest) * scale);
    out[i * kHigh] = power;
    total += power;
  }
  for (int64_t i = seen; i < end; ++i) out[i * kHigh] = 0.0f;
  return total;
}

// kHigh places of one head from `first` on. `queries`: [dim, kHigh]; `scores`: [kHigh, shape.pitch()]; `weights`: [length, kHigh].
// `out`: the head's, its places `pitch` apart.
template <class Out>
void attend(
    const float* queries, const float* keys, const float* values, const Shape& shape, int64_t first,
    float* scores, float* weights, Out* out, int64_t pitch) {
  const float zeros[kHigh] = {}, scale = 1.0f / std::sqrt(static_cast<float>(shape.dim));
  const int64_t end = std::min(first + kHigh, shape.length), rows = end - first;
  for (int64_t place = 0; place < end; place += kAcross) {
    Tile tile(zeros);
    for (int64_t i = 0; i < shape.dim; ++i) tile.add(queries + i * kHigh, keys + i * shape.pitch() + place);
    for (int64_t row = 0; row < rows; ++row) tile.store(row, kAcross, 1.0f, scores + row * shape.pitch() + place);
  }
  float totals[kHigh];
  std::fill_n(weights, end * kHigh, 0.0f);
  for (int64_t row = 0; row < rows; ++row) totals[row] = powers(scores + row * shape.pitch(), first + row + 1, end, scale, weights + row);
  for (int64_t col = 0; col < shape.dim; col += kAcross) {
    Tile tile(zeros);
    for (int64_t place = 0; place < end; ++place) tile.add(weights + place * kHigh, values + place * shape.width() + col);
    for (int64_t row = 0; row < rows; ++row) {
      tile.store(row, std::min(kAcross, shape.dim - col), 1.0f / totals[row], out + (first + row) * pitch + col);
    }
  }
}

// `across` is 0: the places of a head are neighbours in `out`; else the heads of a place, whose places are `across` apart.
template <class T, class Out>
void attention(const Rows<T>& q, const Rows<T>& k, const Rows<T>& v, const Shape& shape, int64_t across, Out* out) {
  const int64_t key_size = shape.dim * shape.pitch(), value_size = shape.length * shape.width(), group = shape.heads / shape.shared;
  const int64_t pitch = across ? across : shape.dim;
  const auto keys = scratch<float>(shape.batches * shape.shared * key_size);
  const auto values = scratch<float>(shape.batches * shape.shared * value_size);
#pragma omp parallel if (shape.batches * shape.heads * shape.length * shape.length * shape.dim > kGrain)
  {
    const auto buffer = scratch<T>(std::max({q.buffer_size(), k.buffer_size(), v.buffer_size()}));
    const auto queries = scratch<float>(shape.dim * kHigh), scores = scratch<float>(kHigh * shape.pitch());
    const auto weights = scratch<float>(shape.length * kHigh);
#pragma omp for schedule(static)
    for (int64_t head = 0; head < shape.batches * shape.shared; ++head) {
      pack_keys(k, shape, head, buffer.get(), keys.get() + head * key_size);
      pack_values(v, shape, head, buffer.get(), values.get() + head * value_size);
    }
#pragma omp for collapse(2) schedule(dynamic, 4)
    for (int64_t head = 0; head < shape.batches * shape.heads; ++head) {
      for (int64_t block = 0; block < shape.blocks(); ++block) {
        std::fill_n(queries.get(), shape.dim * kHigh, 0.0f);
        for (int64_t row = 0; row < std::min(kHigh, shape.length - block * kHigh); ++row) {
          const T* from = q.read(head * shape.length + block * kHigh + row, buffer.get());
          for (int64_t i = 0; i < shape.dim; ++i) queries[i * kHigh + row] = widen(from[i]);
        }
        const float *head_keys = keys.get() + head / group * key_size, *head_values = values.get() + head / group * value_size;
        const int64_t batch = head / shape.heads, number = head % shape.heads;
        Out* to = out + (across ? batch * shape.length * across + number * shape.dim : head * shape.length * shape.dim);
        attend(queries.get(), head_keys, head_values, shape, block * kHigh, scores.get(), weights.get(), to, pitch);
      }
    }
  }
}

// A product's vectors x stand side by side, a panel of kBeside at a time: [panel, depth, kBeside]. A tile of sums is kOuts rows of a weight
// high, whose elements are read where they lie, and comes out as the next product wants its vectors.
constexpr int64_t kOuts = 6, kBeside = kAcross;

inline float silu(float x) {
  const float power = exponential_of_small(-std::fabs(x));
  return x * (x < 0.0f ? power : 1.0f) / (1.0f + power);
}

// How elements are held: 16-bit ones widened, one step of a product at a time.
template <class T>
struct Panels {
  typedef float Held;
  static constexpr int64_t kSteps = 1;  // elements of one vector that lie together

  static Lanes times(const Held* weight, Lanes values, Lanes sums) { return sums + *weight * values; }
};

#ifdef __AVX512BF16__
template <>
struct Panels<Bfloat16> {
  typedef Bfloat16 Held;
  static constexpr int64_t kSteps = 2;  // a pair is multiplied and added in float32

  static Lanes times(const Held* weight, Lanes values, Lanes sums) {
    int32_t pair;
    std::memcpy(&pair, weight, sizeof(pair));
    return (Lanes)_mm512_dpbf16_ps((__m512)sums, (__m512bh)_mm512_set1_epi32(pair), (__m512bh)values);
  }
};
#endif

inline void hold(float value, float& out) { out = value; }
inline void hold(Bfloat16 value, Bfloat16& out) { out = value; }
inline void hold(Bfloat16 value, float& out) { out = widen(value); }
inline void hold(Float16 value, float& out) { out = widen(value); }

// Where element `step` of vector `beside` lies in a panel.
template <class T>
int64_t place_of(int64_t step, int64_t beside) {
  constexpr int64_t kSteps = Panels<T>::kSteps;
  return (step / kSteps * kBeside + beside) * kSteps + step % kSteps;
}

// kOuts rows of a weight, `depth` apart; zeros where the weight has no more, and behind each row.
template <class T, class Held>
void hold_rows(const Rows<T>& weight, int64_t first, int64_t depth, T* buffer, Held* out) {
  std::memset(static_cast<void*>(out), 0, kOuts * depth * sizeof(Held));
  for (int64_t place = 0; place < std::min(kOuts, weight.rows - first); ++place) {
    const T* from = weight.read(first + place, buffer);
    Held* to = out + place * depth;
    for (int64_t i = 0; i < weight.cols; ++i) hold(from[i], to[i]);
  }
}

// Vectors [count, depth] as panels.
template <class T, class Held>
void pack(const Held* vectors, int64_t count, int64_t depth, Held* out) {
  for (int64_t number = 0; number < count; ++number) {
    Held* panel = out + number / kBeside * depth * kBeside;
    for (int64_t i = 0; i < depth; ++i) panel[place_of<T>(i, number % kBeside)] = vectors[number * depth + i];
  }
}

// The products of kOuts rows of a weight with a panel: [kOuts, kBeside].
template <class T, class Held>
void products(const Held* weights, const Held* panel, int64_t depth, float* out) {
  Lanes sums[kOuts][kWide] = {};
  for (int64_t i = 0; i < depth; i += Panels<T>::kSteps) {
#pragma GCC unroll 8
    for (int64_t wide = 0; wide < kWide; ++wide) {
      Lanes values;
      std::memcpy(&values, panel + i * kBeside + wide * kLanes * Panels<T>::kSteps, sizeof(values));
#pragma GCC unroll 16
      for (int64_t place = 0; place < kOuts; ++place) sums[place][wide] = Panels<T>::times(weights + place * depth + i, values, sums[place][wide]);
    }
  }
#pragma GCC unroll 16
  for (int64_t place = 0; place < kOuts; ++place) {
#pragma GCC unroll 8
    for (int64_t wide = 0; wide < kWide; ++wide) std::memcpy(out + place * kBeside + wide * kLanes, &sums[place][wide], sizeof(Lanes));
  }
}

// silu(gate x) * up x for `panels` of x, as panels of `pitch`.
template <class T, class Held>
void gate_and_up(const Held* x, int64_t panels, int64_t depth, const Rows<T>& gate, const Rows<T>& up, int64_t pitch, Held* out) {
#pragma omp parallel if (panels * kBeside * gate.rows * depth > kGrain)
  {
    const auto buffer = scratch<T>(std::max(gate.buffer_size(), up.buffer_size()));
    const auto gates = scratch<Held>(kOuts * depth), ups = scratch<Held>(kOuts * depth);
    float left[kOuts * kBeside], right[kOuts * kBeside];
#pragma omp for schedule(static)
    for (int64_t first = 0; first < gate.rows; first += kOuts) {
      hold_rows(gate, first, depth, buffer.get(), gates.get());
      hold_rows(up, first, depth, buffer.get(), ups.get());
      for (int64_t panel = 0; panel < panels; ++panel) {
        products<T>(gates.get(), x + panel * depth * kBeside, depth, left);
        products<T>(ups.get(), x + panel * depth * kBeside, depth, right);
#pragma omp simd
        for (int64_t i = 0; i < kOuts * kBeside; ++i) left[i] = silu(left[i]) * right[i];
        Held* to = out + panel * pitch * kBeside;
        for (int64_t place = 0; place < std::min(kOuts, gate.rows - first); ++place) {
          for (int64_t i = 0; i < kBeside; ++i) narrow(left[place * kBeside + i], to[place_of<T>(first + place, i)]);
        }
      }
    }
  }
}

// weight x for `count` vectors x in panels.
template <class T, class Held>
void multiply(const Held* x, int64_t count, int64_t depth, const Rows<T>& weight, T* out) {
#pragma omp parallel if (count * weight.rows * depth > kGrain)
  {
    const auto buffer = scratch<T>(weight.buffer_size());
    const auto weights = scratch<Held>(kOuts * depth);
    float found[kOuts * kBeside];
#pragma omp for schedule(static)
    for (int64_t first = 0; first < weight.rows; first += kOuts) {
      hold_rows(weight, first, depth, buffer.get(), weights.get());
      for (int64_t start = 0; start < count; start += kBeside) {
        products<T>(weights.get(), x + start * depth, depth, found);
        for (int64_t i = 0; i < std::min(kBeside, count - start); ++i) {
          T* to = out + (start + i) * weight.rows + first;
          for (int64_t place = 0; place < std::min(kOuts, weight.rows - first); ++place) narrow(found[place * kBeside + i], to[place]);
        }
      }
    }
  }
}

template <class Held>
std::unique_ptr<Held[]> zeros(int64_t count) {
  auto made = scratch<Held>(count);
  std::memset(static_cast<void*>(made.get()), 0, count * sizeof(Held));
  return made;
}

ffi::Tensor compute(TensorView q, TensorView k, TensorView v, TensorView gate, TensorView up, TensorView down) {
  TVM_FFI_CHECK(q.ndim() == 4 && k.ndim() == 4 && same_shape(k, v), ValueError) << "expected [batch, heads, length, dim] three times";
  const bool equal = q.size(0) == k.size(0) && q.size(2) == k.size(2) && q.size(3) == k.size(3);
  TVM_FFI_CHECK(equal, ValueError) << "expected sizes equal but for heads";
  TVM_FFI_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, ValueError) << "expected a multiple of the keys' heads";
  const int64_t count = q.size(0) * q.size(2), hidden = q.size(1) * q.size(3), inner = gate.size(0);
  TVM_FFI_CHECK(same_shape(gate, up) && gate.size(1) == hidden && down.size(0) == hidden && down.size(1) == inner, ValueError)
      << "expected gate and up [inner, heads * dim], down [heads * dim, inner]";
  ffi::Tensor out = empty({q.size(0), q.size(2), hidden}, q.dtype(), q.device());
  if (out.numel() == 0) return out;
  const Shape shape{q.size(0), q.size(1), k.size(1), q.size(2), q.size(3)};
  dispatch(q.dtype(), [&](auto zero) {
    using T = decltype(zero);
    using Held = typename Panels<T>::Held;
    const int64_t panels = (count + kBeside - 1) / kBeside;
    const int64_t wide = rounded_up(hidden, Panels<T>::kSteps), depth = rounded_up(inner, Panels<T>::kSteps);
    const auto attended = zeros<Held>(count * wide), x = zeros<Held>(panels * wide * kBeside), between = zeros<Held>(panels * depth * kBeside);
    attention(Rows<T>(q), Rows<T>(k), Rows<T>(v), shape, wide, attended.get());
    pack<T>(attended.get(), count, wide, x.get());
    gate_and_up(x.get(), panels, wide, Rows<T>(gate), Rows<T>(up), depth, between.get());
    multiply(between.get(), count, depth, Rows<T>(down), static_cast<T*>(out.data_ptr()));
  });
  return out;
}

}  // namespace detail

ffi::Tensor sdpa_mlp(TensorView q, TensorView k, TensorView v, TensorView gate, TensorView up, TensorView down) {
  return detail::compute(q, k, v, gate, up, down);
}

TVM_FFI_DLL_EXPORT_TYPED_FUNC(sdpa_mlp, sdpa_mlp);
