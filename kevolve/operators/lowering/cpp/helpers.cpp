//@ INLINE
#define INLINE __attribute__((always_inline))  // a loop vectorises where all that it calls is inlined

//@ kInfinity
constexpr float kInfinity = std::numeric_limits<float>::infinity();

//@ kFloat32
constexpr DLDataType kFloat32{kDLFloat, 32, 1};

//@ kFloat64
constexpr DLDataType kFloat64{kDLFloat, 64, 1};

//@ kFloat16
constexpr DLDataType kFloat16{kDLFloat, 16, 1};

//@ kBfloat16
constexpr DLDataType kBfloat16{kDLBfloat, 16, 1};

//@ kInt64
constexpr DLDataType kInt64{kDLInt, 64, 1};

//@ kInt32
constexpr DLDataType kInt32{kDLInt, 32, 1};

//@ kInt16
constexpr DLDataType kInt16{kDLInt, 16, 1};

//@ kInt8
constexpr DLDataType kInt8{kDLInt, 8, 1};

//@ kUint8
constexpr DLDataType kUint8{kDLUInt, 8, 1};

//@ kBool
constexpr DLDataType kBool{kDLBool, 8, 1};

//@ Bfloat16
struct Bfloat16 {
  uint16_t bits;
};

//@ Float16
struct Float16 {  // not _Float16, which g++ has since 12 and clang++ since 15
  uint16_t bits;
};

//@ bits
INLINE inline float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

INLINE inline uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

//@ widen: Bfloat16 Float16 bits
INLINE inline float widen(float value) { return value; }
INLINE inline double widen(double value) { return value; }
INLINE inline float widen(Bfloat16 value) { return as_float(static_cast<uint32_t>(value.bits) << 16); }
INLINE inline float widen(Float16 value) {  // a multiplication moves the exponent, of subnormals too
  const uint32_t sign = (value.bits & 0x8000u) << 16, rest = (value.bits & 0x7fffu) << 13;
  const uint32_t finite = as_bits(as_float(rest) * 0x1p112f);
  return as_float(sign | (rest < 0x0f800000u ? finite : rest | 0x7f800000u));
}

//@ narrow: Bfloat16 Float16 bits
// To the nearest, ties to even; NaN stays NaN.
INLINE inline void narrow(float value, float& out) { out = value; }
INLINE inline void narrow(float value, Bfloat16& out) {
  const uint32_t bits = as_bits(value), rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>(value != value ? 0x7fc0u : rounded);
}
INLINE inline void narrow(float value, Float16& out) {
  const uint32_t bits = as_bits(value), rest = bits & 0x7fffffffu;
  const uint32_t exact = ((rest + 0xfffu + ((rest >> 13) & 1u)) >> 13) - (112u << 10);
  const uint32_t normal = exact < 0x7c00u ? exact : 0x7c00u;
  const uint32_t subnormal = as_bits(as_float(rest) + 0.5f) - as_bits(0.5f);  // the spacing at 0.5 is theirs
  const uint32_t size = rest < 0x38800000u ? subnormal : normal;
  out.bits = static_cast<uint16_t>(((bits >> 16) & 0x8000u) | (value != value ? 0x7e00u : size));
}

//@ dispatch: Bfloat16 Float16 kFloat32 kBfloat16 kFloat16
// Calls `body` with a zero of the element type.
template <class Body>
void dispatch(DLDataType dtype, const Body& body) {
  if (dtype == kFloat32) return body(float());
  if (dtype == kBfloat16) return body(Bfloat16());
  if (dtype == kFloat16) return body(Float16());
  TVM_FFI_THROW(TypeError) << "expected float32, bfloat16 or float16";
}

//@ scratch
// Memory that is not cleared.
template <class T>
std::unique_ptr<T[]> scratch(int64_t count) {
  return std::unique_ptr<T[]>(new T[count]);
}

//@ floor_divide
// The quotient rounded down; `below` is positive.
INLINE inline int64_t floor_divide(int64_t above, int64_t below) {
  const int64_t quotient = above / below;
  return quotient * below > above ? quotient - 1 : quotient;
}

//@ floor_remainder
// What is left of a quotient rounded down; `below` is positive.
INLINE inline int64_t floor_remainder(int64_t above, int64_t below) {
  const int64_t rest = above % below;
  return rest < 0 ? rest + below : rest;
}

//@ integer_floor_divide
// The quotient rounded down, of any signs.
template <class T>
INLINE inline T floor_quotient(T above, T below) {
  const T quotient = above / below;
  return quotient * below != above && (above < 0) != (below < 0) ? quotient - 1 : quotient;
}

//@ integer_floor_remainder
// What is left of a quotient rounded down: it has the sign of `below`.
template <class T>
INLINE inline T floor_rest(T above, T below) {
  const T rest = above % below;
  return rest != 0 && (rest < 0) != (below < 0) ? rest + below : rest;
}

//@ float_remainder
// What is left of a quotient rounded down: it has the sign of `below`.
template <class T>
INLINE inline T float_remainder(T above, T below) {
  const T rest = std::fmod(above, below);
  return rest != 0 && (rest < 0) != (below < 0) ? rest + below : rest;
}

//@ select: bits
// One of two that are both worked out, which lets loops vectorise where `?:` does not.
INLINE inline float select(bool condition, float then, float otherwise) {
  const uint32_t mask = 0u - static_cast<uint32_t>(condition);
  return as_float((as_bits(then) & mask) | (as_bits(otherwise) & ~mask));
}

//@ select_double
// One of two that are both worked out, which lets loops vectorise where `?:` does not.
INLINE inline double select(bool condition, double then, double otherwise) {
  uint64_t mask = uint64_t{0} - static_cast<uint64_t>(condition), a, b;
  std::memcpy(&a, &then, sizeof(a));
  std::memcpy(&b, &otherwise, sizeof(b));
  mask = (a & mask) | (b & ~mask);
  double value;
  std::memcpy(&value, &mask, sizeof(value));
  return value;
}

//@ smaller: select
// By value, which lets loops vectorise where std::min does not; NaN if one of them is.
template <class T>
INLINE inline T smaller(T a, T b) {
  return a < b || a != a ? a : b;
}
template <>
INLINE inline float smaller(float a, float b) {
  return select((a < b) | (a != a), a, b);
}

//@ larger: select
// By value, which lets loops vectorise where std::max does not; NaN if one of them is.
template <class T>
INLINE inline T larger(T a, T b) {
  return a > b || a != a ? a : b;
}
template <>
INLINE inline float larger(float a, float b) {
  return select((a > b) | (a != a), a, b);
}

//@ square_of
template <class T>
INLINE inline T square_of(T value) {
  return value * value;
}

//@ floor_of
// A floor without a call, so that loops over it vectorise.
INLINE inline float floor_of(float x) {
  const float nearest = std::nearbyint(x);
  return nearest > x ? nearest - 1.0f : nearest;
}

//@ ceil_of
// A ceiling without a call, so that loops over it vectorise.
INLINE inline float ceil_of(float x) {
  const float nearest = std::nearbyint(x);
  return nearest < x ? nearest + 1.0f : nearest;
}

//@ trunc_of
// Towards zero, without a call, so that loops over it vectorise.
INLINE inline float trunc_of(float x) {
  const float size = std::fabs(x), nearest = std::nearbyint(size);
  return std::copysign(nearest > size ? nearest - 1.0f : nearest, x);
}

//@ sign_of
template <class T>
INLINE inline T sign_of(T value) {
  return static_cast<T>((value > 0) - (value < 0));
}

//@ widen_whole
template <class T, class = std::enable_if_t<std::is_integral_v<T>>>
INLINE inline T widen(T value) {
  return value;
}

//@ count_below: widen
// How many of a sorted row's elements are below `wanted`.
template <class T, class Value>
INLINE inline int64_t count_below(const T* row, int64_t count, Value wanted) {
  int64_t first = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    const bool after = !(widen(row[first + half]) >= wanted);
    first = after ? first + half + 1 : first;
    count = after ? count - half - 1 : half;
  }
  return first;
}

//@ count_at_most: widen
// How many of a sorted row's elements are at most `wanted`.
template <class T, class Value>
INLINE inline int64_t count_at_most(const T* row, int64_t count, Value wanted) {
  int64_t first = 0;
  while (count > 0) {
    const int64_t half = count / 2;
    const bool after = !(widen(row[first + half]) > wanted);
    first = after ? first + half + 1 : first;
    count = after ? count - half - 1 : half;
  }
  return first;
}

//@ sqrt_of: bits select
// A square root without a call, so that loops over it vectorise: by Newton's steps from a first guess at 1 / sqrt(x).
INLINE inline float sqrt_of(float x) {
  const bool small = x < 0x1p-100f;
  const float scaled = select(small, x * 0x1p60f, x);
  float inverse = as_float(0x5f375a86u - (as_bits(scaled) >> 1));
  inverse *= 1.5f - 0.5f * scaled * inverse * inverse;
  inverse *= 1.5f - 0.5f * scaled * inverse * inverse;
  inverse *= 1.5f - 0.5f * scaled * inverse * inverse;
  const float guess = scaled * inverse;
  const float root = std::fma(std::fma(-guess, guess, scaled), 0.5f * inverse, guess) * (small ? 0x1p-30f : 1.0f);
  const float special = x < 0.0f ? std::numeric_limits<float>::quiet_NaN() : x;  // of 0, infinity and NaN: themselves
  return select((x > 0.0f) & (x < std::numeric_limits<float>::infinity()), root, special);
}

//@ exp_of: bits select
// e^x by 2^(n-1) * 2 p(r), x = n ln 2 + r: no call and no branch, so that loops over it vectorise. Relative error at most 2e-7; 0 below
// -86.9, where float32 begins to lose digits.
INLINE inline float exp_of(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  const float shifted = std::fma(x, 1.44269504f, kShift);
  const float whole = shifted - kShift;
  // ln 2 in two parts: 0.693145752f has so few bits that whole times it is exact
  const float rest = std::fma(whole, -1.42860677e-6f, std::fma(whole, -0.693145752f, x));
  float p = std::fma(rest, 3.97513830e-4f, 2.79639990e-3f);
  p = std::fma(p, rest, 1.66669038e-2f);
  p = std::fma(p, rest, 8.33315916e-2f);
  p = std::fma(p, rest, 3.33333310e-1f);
  p = std::fma(p, rest, 1.00000002f);
  p = std::fma(p, rest * rest, std::fma(rest, 2.0f, 2.0f));
  const float value = p * as_float((as_bits(shifted) + 126) << 23);  // 2^128 is no float32
  return select(x > 88.7228394f, std::numeric_limits<float>::infinity(), select(x < -86.9f, 0.0f, value));
}

//@ expm1_of: bits select
// e^x - 1, as accurate near 0: no call and no branch, so that loops over it vectorise.
INLINE inline float expm1_of(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest whole number in the low bits
  float inside = x < -30.0f ? -30.0f : x;  // beyond these it is -1 and infinity
  inside = inside > 89.0f ? 89.0f : inside;
  const float shifted = std::fma(inside, 1.44269504f, kShift);
  const float whole = shifted - kShift;
  const float rest = std::fma(whole, -1.42860677e-6f, std::fma(whole, -0.693145752f, inside));
  float p = std::fma(rest, 1.98756915e-4f, 1.39819995e-3f);
  p = std::fma(p, rest, 8.33345191e-3f);
  p = std::fma(p, rest, 4.16657959e-2f);
  p = std::fma(p, rest, 1.66666655e-1f);
  p = std::fma(p, rest, 5.00000012e-1f);
  p = std::fma(p, rest * rest, rest);  // e^rest - 1
  const int32_t power = static_cast<int32_t>(as_bits(shifted) << 9) >> 9;
  const float half = as_float((power + 126) << 23);  // 2^(n-1): 2^128 is no float32
  const float value = std::fma(p, half, half - 0.5f) * 2.0f;
  return select(x == 0.0f, x, value);
}

//@ log_of: bits select
// ln x = n ln 2 + p(m - 1), x = 2^n m: no call and no branch, so that loops over it vectorise.
INLINE inline float log_of(float x) {
  const bool small = x < std::numeric_limits<float>::min();
  const uint32_t bits = as_bits(select(small, x * 0x1p23f, x)) - 0x3f3504f3u;  // of 1 / sqrt(2)
  const float exponent = static_cast<float>((static_cast<int32_t>(bits) >> 23) - 23 * static_cast<int32_t>(small));
  const float rest = as_float((bits & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float squared = rest * rest;
  float p = std::fma(rest, 7.0376836292e-2f, -1.1514610310e-1f);
  p = std::fma(p, rest, 1.1676998740e-1f);
  p = std::fma(p, rest, -1.2420140846e-1f);
  p = std::fma(p, rest, 1.4249322787e-1f);
  p = std::fma(p, rest, -1.6668057665e-1f);
  p = std::fma(p, rest, 2.0000714765e-1f);
  p = std::fma(p, rest, -2.4999993993e-1f);
  p = std::fma(p, rest, 3.3333331174e-1f);
  p = std::fma(exponent, -2.12194440e-4f, p * rest * squared);
  const float value = std::fma(exponent, 0.693359375f, rest + std::fma(squared, -0.5f, p));
  const float edge = x == 0.0f ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
  const float special = x > 0.0f ? x : edge;  // of infinity itself
  return select((x > 0.0f) & (x < std::numeric_limits<float>::infinity()), value, special);
}

//@ log1p_of: log_of
// ln(1 + x), as accurate near 0.
INLINE inline float log1p_of(float x) {
  const float sum = 1.0f + x;
  const float lost = x - (sum - 1.0f);  // to rounding
  const float value = log_of(sum) + select((std::fabs(x) < 16777216.0f) & (sum > 0.0f), lost / sum, 0.0f);
  return select(x == 0.0f, x, value);
}

//@ tanh_of: expm1_of
// By e^2x - 1, which is as accurate near 0.
INLINE inline float tanh_of(float x) {
  const float size = std::fabs(x);
  const float part = expm1_of(size > 10.0f ? 20.0f : 2.0f * size);
  return std::copysign(part / (part + 2.0f), x);
}

//@ sigmoid_of: exp_of
// 1 / (1 + e^-x).
INLINE inline float sigmoid_of(float x) { return 1.0f / (1.0f + exp_of(-x)); }

//@ erf_of: exp_of select
// erf by a polynomial near 0 and by 1 - e^p(|x|) elsewhere: no branch, so that loops over it vectorise.
INLINE inline float erf_of(float x) {
  const uint32_t bits = as_bits(x) & 0x7fffffffu;
  const float size = as_float(bits < 0x40800000u ? bits : 0x40800000u), squared = x * x;  // at most 4
  float near = std::fma(squared, -5.95374091e-4f, 4.98594043e-3f);
  near = std::fma(near, squared, -2.67617197e-2f);
  near = std::fma(near, squared, 1.12816825e-1f);
  near = std::fma(near, squared, -3.76124811e-1f);
  near = std::fma(near, squared, 1.28379148e-1f);
  near = std::fma(near, x, x);
  float p = std::fma(size, 1.95937594e-4f, -3.04322066e-3f);
  p = std::fma(p, size, 2.22269325e-2f);
  p = std::fma(p, size, -1.03931620e-1f);
  p = std::fma(p, size, -6.37182222e-1f);
  p = std::fma(p, size, -1.12767564f);
  const float far = 1.0f - exp_of(std::fma(p, size, -1.95672434e-4f));
  return select(bits - 0x3f6e147bu <= 0x7f800000u - 0x3f6e147bu, std::copysign(far, x), near);  // from 0.93 to infinity
}

//@ reduce_angle: bits
// What is left of an angle, at most pi / 4 in size, and the `quarters` of a turn taken away. Exact for every float32: by pi / 2 in two
// parts, and from 2^20 on by those bits of 2 / pi that matter for its exponent.
INLINE inline float reduce_angle(float x, int32_t& quarters) {
  static constexpr uint32_t kBits[] = {
      0x0000a2f9u, 0x00a2f983u, 0xa2f9836eu, 0xf9836e4eu, 0x836e4e44u, 0x6e4e4415u, 0x4e441529u, 0x441529fcu,
      0x1529fc27u, 0x29fc2757u, 0xfc2757d1u, 0x2757d1f5u, 0x57d1f534u, 0xd1f534ddu, 0xf534ddc0u, 0x34ddc0dbu,
      0xddc0db62u, 0xc0db6295u, 0xdb629599u, 0x6295993cu, 0x95993c43u, 0x993c4390u, 0x3c439041u,
  };  // 32 bits of 2 / pi from every eighth on
  const double turns = std::nearbyint(static_cast<double>(x) * 0.63661977236758134);
  const double near = std::fma(turns, -6.123233995736766e-17, std::fma(turns, -1.5707963267948966, static_cast<double>(x)));
  const int32_t near_quarters = static_cast<int32_t>(turns - 4.0 * std::nearbyint(turns * 0.25));
  const uint32_t size = as_bits(x) & 0x7fffffffu;
  const int32_t exponent = static_cast<int32_t>(size >> 23) - 136, offset = exponent > 0 ? exponent : 0, word = offset >> 3;
  const uint64_t digits = static_cast<uint64_t>((size & 0x007fffffu) | 0x00800000u) << (offset & 7);
  const uint64_t sum = (digits * kBits[word] << 32) + digits * kBits[word + 4] + (digits * kBits[word + 8] >> 32);
  const uint64_t whole = (sum + (uint64_t{1} << 61)) >> 62;
  const double far = static_cast<double>(static_cast<int64_t>(sum - (whole << 62))) * 3.4061215800304985e-19;  // pi / 2^63
  const int32_t sign = (static_cast<int32_t>(as_bits(x)) >> 31) | 1, far_quarters = sign * static_cast<int32_t>(whole);
  const int32_t large = static_cast<int32_t>(0x497fffffu - size) >> 31;  // all bits from 2^20 on
  quarters = (far_quarters & large) | (near_quarters & ~large);
  const uint32_t far_bits = as_bits(static_cast<float>(sign) * static_cast<float>(far));
  const uint32_t angle_bits = (far_bits & large) | (as_bits(static_cast<float>(near)) & ~large);
  return as_float(angle_bits) * (x - x + 1.0f);  // NaN for infinity
}

//@ wave: bits select
// The sine of an angle of at most pi / 4 after so many quarters of a turn.
INLINE inline float wave(float angle, int32_t quarters) {
  const float squared = angle * angle;
  float odd = std::fma(squared, 2.71827445e-6f, -1.98393310e-4f);
  odd = std::fma(odd, squared, 8.33332937e-3f);
  odd = std::fma(odd, squared, -1.66666666e-1f);
  odd = std::fma(odd * squared, angle, angle);
  float even = std::fma(squared, 2.47995159e-5f, -1.38888837e-3f);
  even = std::fma(even, squared, 4.16666666e-2f);
  even = std::fma(even * squared, squared, std::fma(squared, -0.5f, 1.0f));
  const float value = select((quarters & 1) != 0, even, odd);
  return as_float(as_bits(value) ^ (static_cast<uint32_t>(quarters & 2) << 30));
}

//@ sin_of: reduce_angle wave
INLINE inline float sin_of(float x) {
  int32_t quarters;
  const float angle = reduce_angle(x, quarters);
  return wave(angle, quarters);
}

//@ cos_of: reduce_angle wave
INLINE inline float cos_of(float x) {
  int32_t quarters;
  const float angle = reduce_angle(x, quarters);
  return wave(angle, quarters + 1);
}

//@ tan_of: reduce_angle wave
INLINE inline float tan_of(float x) {
  int32_t quarters;
  const float angle = reduce_angle(x, quarters);
  return wave(angle, quarters) / wave(angle, quarters + 1);
}

//@ sum_of
constexpr int64_t kSums = 64;  // tune: 16, 32, 64, 128
constexpr int64_t kMany = 32 * kSums;  // terms from which several sums pay
constexpr int64_t kBlock = 64 * kSums;  // terms whose sums are added up by themselves, for what rounding takes from long ones

// term(0) + … + term(count - 1); of many terms, kSums sums side by side: one alone waits for its own additions.
template <class Term>
INLINE inline auto sum_of(int64_t count, const Term& term) {
  using Value = decltype(term(int64_t{0}));
  Value total = 0;
  if (count < kMany) {
#pragma omp simd reduction(+ : total)
    for (int64_t i = 0; i < count; ++i) total += term(i);
    return total;
  }
  int64_t i = 0;
  const int64_t whole = count / kSums * kSums;
  while (i < whole) {
    Value sums[kSums] = {};
    const int64_t last = std::min(i + kBlock, whole);
    for (; i < last; i += kSums) {
#pragma omp simd
      for (int64_t lane = 0; lane < kSums; ++lane) sums[lane] += term(i + lane);
    }
    for (int64_t half = kSums / 2; half > 0; half /= 2) {
      for (int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
    }
    total += sums[0];
  }
  for (; i < count; ++i) total += term(i);
  return total;
}

//@ product_of
// term(0) * … * term(count - 1).
template <class Term>
INLINE inline auto product_of(int64_t count, const Term& term) {
  decltype(term(int64_t{0})) total = 1;
#pragma omp simd reduction(* : total)
  for (int64_t i = 0; i < count; ++i) total *= term(i);
  return total;
}

//@ extreme
// The best of term(0) to term(count - 1), in lanes side by side, which may see a term twice. NaN if one is, noted apart: a comparison
// that keeps it does not vectorise.
template <int lanes, class Term, class Better>
INLINE inline auto extreme(int64_t count, const Term& term, const Better& better) {
  using Value = decltype(term(int64_t{0}));
  Value best[lanes];
  int32_t odd[lanes];
#pragma omp simd
  for (int64_t lane = 0; lane < lanes; ++lane) {
    const Value value = term(lane);
    best[lane] = value;
    odd[lane] = value != value;
  }
  for (int64_t first = lanes; first < count; first += lanes) {
    const int64_t from = std::min(first, count - lanes);
#pragma omp simd
    for (int64_t lane = 0; lane < lanes; ++lane) {
      const Value value = term(from + lane);
      best[lane] = better(value, best[lane]) ? value : best[lane];
      odd[lane] |= value != value;
    }
  }
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
    for (int64_t lane = 0; lane < half; ++lane) {
      best[lane] = better(best[lane + half], best[lane]) ? best[lane + half] : best[lane];
      odd[lane] |= odd[lane + half];
    }
  }
  return odd[0] ? std::numeric_limits<Value>::quiet_NaN() : best[0];
}

//@ max_of: extreme
// The largest of term(0) to term(count - 1); NaN if one of them is.
template <class Term>
INLINE inline auto max_of(int64_t count, const Term& term) {
  using Value = decltype(term(int64_t{0}));
  const auto better = [](Value a, Value b) { return a > b; };
  if (count >= 512) return extreme<64>(count, term, better);
  if (count >= 16) return extreme<16>(count, term, better);
  if (count > 0) return extreme<1>(count, term, better);
  return std::numeric_limits<Value>::has_infinity ? -std::numeric_limits<Value>::infinity() : std::numeric_limits<Value>::lowest();
}

//@ min_of: extreme
// The smallest of term(0) to term(count - 1); NaN if one of them is.
template <class Term>
INLINE inline auto min_of(int64_t count, const Term& term) {
  using Value = decltype(term(int64_t{0}));
  const auto better = [](Value a, Value b) { return a < b; };
  if (count >= 512) return extreme<64>(count, term, better);
  if (count >= 16) return extreme<16>(count, term, better);
  if (count > 0) return extreme<1>(count, term, better);
  return std::numeric_limits<Value>::has_infinity ? std::numeric_limits<Value>::infinity() : std::numeric_limits<Value>::max();
}

//@ any_of
// Whether one of term(0) to term(count - 1) is true.
template <class Term>
INLINE inline bool any_of(int64_t count, const Term& term) {
  int32_t found = 0;
#pragma omp simd reduction(| : found)
  for (int64_t i = 0; i < count; ++i) found |= term(i) ? 1 : 0;
  return found != 0;
}

//@ all_of
// Whether all of term(0) to term(count - 1) are true.
template <class Term>
INLINE inline bool all_of(int64_t count, const Term& term) {
  int32_t missing = 0;
#pragma omp simd reduction(| : missing)
  for (int64_t i = 0; i < count; ++i) missing |= term(i) ? 0 : 1;
  return missing == 0;
}

//@ Best
// A value and where it was found.
template <class Value>
struct Best {
  Value value;
  int64_t place;
};

//@ is_larger
// Whether a value takes the place of the largest so far: NaN before all, the first of equal ones.
template <class Value>
INLINE inline bool is_larger(Value value, Value best) {
  return (value > best) | ((value != value) & (best == best));
}

//@ is_smaller
// Whether a value takes the place of the smallest so far: NaN before all, the first of equal ones.
template <class Value>
INLINE inline bool is_smaller(Value value, Value best) {
  return (value < best) | ((value != value) & (best == best));
}

//@ first_best: Best
// The first of term(0) to term(count - 1), of which there is one, that no other `precedes`.
template <class Term, class Precedes>
INLINE inline auto first_best(int64_t count, const Term& term, const Precedes& precedes) {
  using Value = decltype(term(int64_t{0}));
  constexpr int64_t kLanes = 16;
  Best<Value> best{term(int64_t{0}), 0};
  if (count < 2 * kLanes) {
    for (int64_t i = 1; i < count; ++i) {
      const Value value = term(i);
      if (precedes(value, best.value)) best = {value, i};
    }
    return best;
  }
  Value values[kLanes];
  int32_t steps[kLanes] = {};  // at which a lane found its best
#pragma omp simd
  for (int64_t lane = 0; lane < kLanes; ++lane) values[lane] = term(lane);
  const int32_t whole = static_cast<int32_t>(count / kLanes);
  for (int32_t step = 1; step < whole; ++step) {
#pragma omp simd
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const Value value = term(step * kLanes + lane);
      const bool found = precedes(value, values[lane]);
      values[lane] = found ? value : values[lane];
      steps[lane] = found ? step : steps[lane];
    }
  }
  best = {values[0], steps[0] * kLanes};
  for (int64_t lane = 1; lane < kLanes; ++lane) {
    const int64_t place = steps[lane] * kLanes + lane;
    const bool first = !precedes(best.value, values[lane]) && place < best.place;
    if (first || precedes(values[lane], best.value)) best = {values[lane], place};
  }
  for (int64_t i = whole * kLanes; i < count; ++i) {
    const Value value = term(i);
    if (precedes(value, best.value)) best = {value, i};
  }
  return best;
}

//@ argmax_of: first_best is_larger
template <class Term>
INLINE inline auto argmax_of(int64_t count, const Term& term) {
  return first_best(count, term, [](auto value, auto best) { return is_larger(value, best); });
}

//@ argmin_of: first_best is_smaller
template <class Term>
INLINE inline auto argmin_of(int64_t count, const Term& term) {
  return first_best(count, term, [](auto value, auto best) { return is_smaller(value, best); });
}

//@ fill
template <class T>
inline void fill(T* to, int64_t count, T value) {
#pragma omp parallel for simd schedule(static) if (parallel : count > kGrain)
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

//@ fill_narrow: narrow
template <class T>
inline void fill(T* to, int64_t count, float value) {
#pragma omp parallel for simd schedule(static) if (parallel : count > kGrain)
  for (int64_t i = 0; i < count; ++i) narrow(value, to[i]);
}

//@ Contiguous
// A tensor's elements in order: where they lie if contiguous, else copied.
class Contiguous {
 public:
  explicit Contiguous(const TensorView& tensor) : tensor_(tensor), width_(tensor.dtype().bits / 8) {
    if (tensor.IsContiguous()) {
      data_ = static_cast<char*>(tensor.data_ptr());
      return;
    }
    copy_.reset(new char[tensor.numel() * width_]);
    data_ = copy_.get();
    if (tensor.numel() > 0) copy(0, static_cast<char*>(tensor.data_ptr()), data_, false);
  }

  template <class T>
  T* data() const {
    return reinterpret_cast<T*>(data_);
  }

  // For tensors that are changed: back to where they came from.
  void write_back() const {
    if (copy_ && tensor_.numel() > 0) copy(0, static_cast<char*>(tensor_.data_ptr()), data_, true);
  }

 private:
  // One axis and those inside it; returns where the elements in order go on.
  char* copy(int64_t axis, char* strided, char* ordered, bool back) const {
    if (axis == tensor_.ndim()) {
      std::memcpy(back ? strided : ordered, back ? ordered : strided, width_);
      return ordered + width_;
    }
    const int64_t step = tensor_.stride(axis) * width_;
    for (int64_t i = 0; i < tensor_.size(axis); ++i) ordered = copy(axis + 1, strided + i * step, ordered, back);
    return ordered;
  }

  TensorView tensor_;
  int64_t width_;
  std::unique_ptr<char[]> copy_;
  char* data_;
};

//@ empty
inline ffi::Tensor empty(ffi::ShapeView shape, DLDataType dtype, DLDevice device) {
  return ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, shape, dtype, device);
}

//@ expect
inline void expect(const TensorView& tensor, const char* name, int64_t rank) {
  TVM_FFI_CHECK(tensor.ndim() == rank, ValueError) << name << ": expected " << rank << " axes, got " << tensor.ndim();
}

//@ expect_dtype: expect
inline void expect(const TensorView& tensor, const char* name, int64_t rank, DLDataType dtype) {
  expect(tensor, name, rank);
  TVM_FFI_CHECK(tensor.dtype() == dtype, TypeError)
      << name << ": expected " << ffi::DLDataTypeToString(dtype) << ", got " << ffi::DLDataTypeToString(tensor.dtype());
}

//@ expect_equal
inline void expect_equal(int64_t got, int64_t expected, const char* what) {
  TVM_FFI_CHECK(got == expected, ValueError) << what << ": expected " << expected << ", got " << got;
}

//@ pack_along
// A panel for a tile: value(i, k) of `width` neighbours i side by side for each k, 0 beyond `count`. For values whose k are neighbours
// in memory: some steps at a time, so that what is written stays in the cache.
template <int64_t width, class Packed, class Value>
INLINE inline void pack_along(int64_t first, int64_t count, int64_t depth, Packed* panel, const Value& value) {
  constexpr int64_t kSteps = 16;
  const int64_t there = std::min(width, count - first);
  for (int64_t begin = 0; begin < depth; begin += kSteps) {
    const int64_t end = std::min(begin + kSteps, depth);
    for (int64_t i = 0; i < there; ++i) {
      for (int64_t k = begin; k < end; ++k) panel[k * width + i] = value(first + i, k);
    }
    for (int64_t i = there; i < width; ++i) {
      for (int64_t k = begin; k < end; ++k) panel[k * width + i] = 0;
    }
  }
}

//@ pack_across
// A panel for a tile: value(i, k) of `width` neighbours i side by side for each k, 0 beyond `count`. For values whose i are neighbours
// in memory.
template <int64_t width, class Packed, class Value>
INLINE inline void pack_across(int64_t first, int64_t count, int64_t depth, Packed* panel, const Value& value) {
  const int64_t there = std::min(width, count - first);
  for (int64_t k = 0; k < depth; ++k) {
    Packed* to = panel + k * width;
#pragma omp simd
    for (int64_t i = 0; i < there; ++i) to[i] = value(first + i, k);
    for (int64_t i = there; i < width; ++i) to[i] = 0;
  }
}

//@ multiply: kHigh kWide
constexpr int64_t kAcross = kWide * 16;  // columns of a tile
constexpr int64_t kDepth = 256;  // products that are summed up by themselves, for what rounding takes from long sums

// The products of a tile, kHigh rows and kAcross columns: their sums stay in registers.
template <class Packed, class Total>
INLINE inline void multiply(int64_t depth, const Packed* high_panel, const Packed* wide_panel, Total (&totals)[kHigh][kAcross]) {
  typedef Packed Lanes __attribute__((vector_size(16 * sizeof(Packed))));
  std::memset(totals, 0, sizeof(totals));
  for (int64_t begin = 0; begin < depth; begin += kDepth) {
    Lanes sums[kHigh][kWide] = {};
    for (int64_t k = begin; k < std::min(begin + kDepth, depth); ++k) {
#pragma GCC unroll 8
      for (int64_t wide = 0; wide < kWide; ++wide) {
        Lanes values;
        std::memcpy(&values, wide_panel + k * kAcross + wide * 16, sizeof(values));
#pragma GCC unroll 16
        for (int64_t high = 0; high < kHigh; ++high) sums[high][wide] += high_panel[k * kHigh + high] * values;
      }
    }
    for (int64_t high = 0; high < kHigh; ++high) {
      Packed row[kAcross];
      std::memcpy(row, sums[high], sizeof(row));
      for (int64_t i = 0; i < kAcross; ++i) totals[high][i] += row[i];
    }
  }
}
