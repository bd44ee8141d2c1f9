// cpu_peaks: rates of this machine's memory and arithmetic, all threads at once, the best of as many repetitions as time allows
// idea: one parallel region holds many passes, so that waking threads up costs nothing; memory is touched before it is timed
#include <tvm/ffi/tvm_ffi.h>

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif
typedef float FloatVector __attribute__((vector_size(kVectorBytes)));
typedef double DoubleVector __attribute__((vector_size(kVectorBytes)));
typedef int64_t LongVector __attribute__((vector_size(kVectorBytes)));

constexpr int kAccumulators = 12;  // enough to hide the latency of two fused multiply-add units
constexpr int kStreams = 8;        // independent random walks a thread
constexpr double kRegionSeconds = 1e-3;

std::atomic<int64_t> sink{0};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// The best rate of `region(passes)`, which does `work` units a pass on every thread.
template <typename Region>
double best_rate(double work, double budget_s, Region region) {
  int64_t passes = 1;
  double best = 0, end = now() + budget_s;
  do {
    const double start = now();
    region(passes);
    const double took = now() - start;
    if (took < kRegionSeconds) {
      passes *= 2;
      continue;
    }
    best = std::max(best, work * passes * omp_get_max_threads() / took);
  } while (best == 0 || now() < end);
  return best;
}

void barrier() { std::atomic_signal_fence(std::memory_order_seq_cst); }

int64_t read_all(const LongVector* from, int64_t count) {
  LongVector sums[8] = {};
  for (int64_t i = 0; i + 8 <= count; i += 8)
    for (int j = 0; j < 8; ++j) sums[j] += from[i + j];
  LongVector total = {};
  for (int j = 0; j < 8; ++j) total += sums[j];
  return total[0];
}

enum Kind : int64_t { kNothing, kRead, kCopy, kFill, kRandom, kFloat32, kFloat64 };

double memory_rate(int64_t kind, int64_t bytes, double budget_s) {
  const int64_t threads = omp_get_max_threads(), each = std::max<int64_t>(bytes / threads / 4096, 1) * 4096;
  std::unique_ptr<char, decltype(&std::free)> memory(static_cast<char*>(std::aligned_alloc(4096, each * threads)), std::free);
#pragma omp parallel
  std::memset(memory.get() + omp_get_thread_num() * each, 1, each);
  return best_rate(double(each), budget_s, [&](int64_t passes) {
#pragma omp parallel
    {
      char* own = memory.get() + omp_get_thread_num() * each;
      int64_t total = 0;
      for (int64_t pass = 0; pass < passes; ++pass, barrier()) {
        if (kind == kRead) total += read_all(reinterpret_cast<const LongVector*>(own), each / kVectorBytes);
        if (kind == kCopy) std::memcpy(own, own + each / 2, each / 2);
        if (kind == kFill) std::memset(own, int(pass), each);
      }
      sink += total;
    }
  });
}

double random_rate(int64_t bytes, double budget_s) {
  int bits = 3;
  while ((int64_t{16} << bits) <= bytes) ++bits;
  const int64_t entries = int64_t{1} << bits;
  std::unique_ptr<int64_t[]> table(new int64_t[entries]);
  std::fill(table.get(), table.get() + entries, 1);
  constexpr int64_t steps = 4096;
  return best_rate(double(steps * kStreams), budget_s, [&](int64_t passes) {
#pragma omp parallel
    {
      uint64_t state[kStreams];
      for (int j = 0; j < kStreams; ++j) state[j] = 0x9E3779B97F4A7C15u * (omp_get_thread_num() * kStreams + j + 1);
      int64_t total = 0;
      for (int64_t step = 0; step < passes * steps; ++step)
        for (int j = 0; j < kStreams; ++j) {
          state[j] = state[j] * 6364136223846793005u + 1442695040888963407u;
          total += table[state[j] >> (64 - bits)];
        }
      sink += total;
    }
  });
}

template <typename Vector, typename Element>
double arithmetic_rate(double budget_s) {
  constexpr int64_t steps = 4096, lanes = kVectorBytes / sizeof(Element);
  return best_rate(double(steps * kAccumulators * lanes * 2), budget_s, [&](int64_t passes) {
#pragma omp parallel
    {
      Vector sums[kAccumulators], factor = {}, addend = {};
      factor += Element(0.999), addend += Element(omp_get_thread_num());
      for (auto& sum : sums) sum = addend;
      for (int64_t step = 0; step < passes * steps; ++step)
        for (int j = 0; j < kAccumulators; ++j) sums[j] = sums[j] * factor + addend;
      Vector total = {};
      for (auto& sum : sums) total += sum;
      sink += int64_t(total[0]);
    }
  });
}

// Units a second: bytes for kRead, kCopy and kFill, accesses for kRandom, operations for kFloat32 and kFloat64.
double cpu_peaks(int64_t kind, int64_t bytes, double budget_s) {
  switch (kind) {
    case kNothing: return 0;
    case kRandom: return random_rate(bytes, budget_s);
    case kFloat32: return arithmetic_rate<FloatVector, float>(budget_s);
    case kFloat64: return arithmetic_rate<DoubleVector, double>(budget_s);
    default: return memory_rate(kind, bytes, budget_s);
  }
}

}  // namespace

TVM_FFI_DLL_EXPORT_TYPED_FUNC(cpu_peaks, cpu_peaks);
