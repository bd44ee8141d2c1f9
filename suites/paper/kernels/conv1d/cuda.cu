// conv1d: convolution along the last axis, stride 1, one zero on both sides
// idea: persistent implicit product on wgmma, 30 steps of m64n200k16 an element instead of 36: outputs 64-95 fill half a tile, so the idle
// half takes over one tap of the same outputs, shifted by one position, added by a shuffle; weights in registers, x turned once to [c/8][l][8]
// spec: suites/paper/test_paper_convolutions.py::test_conv1d
// target: cuda
// parent: agent
// measured: 64-96-96-200-float16: 2.82x [2.74, 2.90] over eager, 7 pairs
// measured: 64-96-96-200-float16: 2.68x [2.67, 2.69] over compile, 7 pairs
// measured: 512-96-96-200-float16: 4.70x [4.63, 4.78] over eager, 7 pairs
// measured: 512-96-96-200-float16: 3.93x [3.87, 4.00] over compile, 7 pairs
// measured: 2048-96-96-200-float16: 6.86x [6.80, 6.93] over eager, 7 pairs
// measured: 2048-96-96-200-float16: 5.16x [5.11, 5.21] over compile, 7 pairs
// shapes: 64-96-96-200-float16, 512-96-96-200-float16, 2048-96-96-200-float16
// hardware: NVIDIA H200
// toolchain: nvcc 13.0.88, flags -std=c++17 -O3 --ptxas-options=-v -shared -Xcompiler=-fPIC -cudart=static --expt-relaxed-constexpr, tvm_ffi 0.1.15.post2
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>

namespace ffi = tvm::ffi;
namespace {

constexpr int BLOCKS = 132;    // tune: 66, 128, 132
constexpr int SPLIT_UP_TO = 66;  // tune: 0, 33, 66
constexpr int BATCHED = 5;     // tune: 2, 3, 5
constexpr int GENERAL = 128;   // tune: 64, 128, 256

constexpr int C = 96, O = 96, L = 200, T = 3;
constexpr int kThreads = 384;  // two warpgroups multiply, one copies and turns
constexpr int kRow = L * 2;              // bytes of a row of x or out
constexpr int kRaw = C * kRow;           // 38,400: one batch element
constexpr int kWeightRow = C * T * 2;    // 576
constexpr int kWeightPitch = 592;        // 148 words: the fragments' reads have no bank conflicts
constexpr int kMargin = 8;               // rows before the first position

template <int N>
struct Plan {
  static constexpr int kRows = N + 16;                // rows of 16 bytes of a chunk of 8 channels
  static constexpr int kChunk = kRows * 16;           // bytes: the descriptor's leading offset
  static constexpr int kTurned = C / 8 * kChunk;      // bytes of a turned tile
  static constexpr int kOut = 2 * kRaw;               // after the raw ring
  static constexpr int kTurnedAt = kOut + ((C * kWeightPitch + 127) / 128 * 128);  // out staging and weights share
  static constexpr int kBytes = kTurnedAt + 2 * kTurned;
};

__device__ __forceinline__ uint32_t shared(const void* pointer) { return static_cast<uint32_t>(__cvta_generic_to_shared(pointer)); }

__device__ __forceinline__ void init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(uint32_t barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }

__device__ __forceinline__ void expect(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ __forceinline__ void wait(uint32_t barrier, int parity) {
  for (uint32_t done = 0; !done;)
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
}

__device__ __forceinline__ void load(uint32_t to, const void* from, int bytes, uint32_t full) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
               "r"(full)
               : "memory");
}

__device__ __forceinline__ void store(void* to, uint32_t from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
__device__ __forceinline__ void store_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }
__device__ __forceinline__ void fence_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ __forceinline__ void read_turned(uint32_t (&r)[4], uint32_t at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(at)
               : "memory");
}

__device__ __forceinline__ void write4(uint32_t at, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

__device__ __forceinline__ void write2(uint32_t at, uint32_t a, uint32_t b) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.shared.b16 [%0], {%1, %2};" ::"r"(at), "r"(a), "r"(b) : "memory");
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

__device__ __forceinline__ void write1(uint32_t at, uint32_t a) {
  asm volatile("stmatrix.sync.aligned.m8n8.x1.shared.b16 [%0], {%1};" ::"r"(at), "r"(a) : "memory");
}

struct Taps {
  uint32_t of[3];
};

// Two neighbouring channels' weights for each tap: of [o][c][3] the 12 bytes at channel 16 s + 8 high + 2 (lane mod 4).
__device__ __forceinline__ Taps read_taps(const unsigned char* weights, int output, int s, int high, int lane) {
  const uint32_t* words = reinterpret_cast<const uint32_t*>(weights + output * kWeightPitch) + 24 * s + 12 * high + 3 * (lane % 4);
  const uint32_t w0 = words[0], w1 = words[1], w2 = words[2];
  return {{__byte_perm(w0, w1, 0x7610), __byte_perm(w0, w2, 0x5432), __byte_perm(w1, w2, 0x7610)}};
}

// ROWS rows of a warp's staging to memory: whole rows lie in one piece; a half's rows are 104 or 96 positions.
template <bool HALF, int ROWS>
__device__ __forceinline__ void store_rows(__half* at, uint32_t staging, int half, int lane) {
  if (!HALF) {
    if (lane == 0) store(at, staging, ROWS * kRow);
  } else if (lane < ROWS) {
    if (half == 0) store(at + lane * L, staging + lane * kRow, 208);
    else store(at + lane * L + 104, staging + lane * kRow + 16, 192);
  }
  store_commit();
}

// D [64, 200] (+)= A (registers) [64, 16] B [16, 200], B K-major in shared memory
__device__ __forceinline__ void multiply(float (&d)[100], const uint32_t (&a)[4], uint64_t b, int keep) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %105, 0; "
      "wgmma.mma_async.sync.aligned.m64n200k16.f32.f16.f16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"
      "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,"
      "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,"
      "%60,%61,%62,%63,%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,%96,%97,%98,%99"
      "}, {%100,%101,%102,%103}, %104, p, 1, 1, 0;}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]),
        "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
        "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
        "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),
        "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
        "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]), "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]),
        "+f"(d[70]), "+f"(d[71]), "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
        "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]), "+f"(d[88]), "+f"(d[89]),
        "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]), "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}

// D [64, 104] (+)= A (registers) [64, 16] B [16, 104], B K-major in shared memory
__device__ __forceinline__ void multiply(float (&d)[52], const uint32_t (&a)[4], uint64_t b, int keep) {
  asm volatile(
      "{.reg .pred p; setp.ne.b32 p, %57, 0; "
      "wgmma.mma_async.sync.aligned.m64n104k16.f32.f16.f16 {"
      "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"
      "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,"
      "%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51"
      "}, {%52,%53,%54,%55}, %56, p, 1, 1, 0;}"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]),
        "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]),
        "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
        "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
        "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]), "+f"(d[48]), "+f"(d[49]),
        "+f"(d[50]), "+f"(d[51])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(keep));
}

// N = 200: a block walks over batch elements. N = 104: a block has one half of one element (positions 0-103, or 96-199 of which 104-199 are stored).
template <int N>
__global__ void __launch_bounds__(kThreads, 1)
    product_kernel(const __half* __restrict__ x, const __half* __restrict__ weight, const __half* __restrict__ bias, int64_t bias_step,
                   __half* __restrict__ out, int batch) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  using P = Plan<N>;
  constexpr bool kHalf = N != L;
  extern __shared__ __align__(1024) unsigned char memory[];
  __shared__ __align__(8) uint64_t barriers[9];
  const uint32_t base = shared(memory), bars = shared(barriers);
  const uint32_t raw_full = bars, turned_full = bars + 16, turned_empty = bars + 32, turn = bars + 48, weights_full = bars + 64;
  const int group = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 128, 0);
  const int warp = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32 % 4, 0), lane = threadIdx.x % 32;
  const int first = kHalf ? blockIdx.x / 2 : blockIdx.x, step = kHalf ? batch : gridDim.x;
  const int half = kHalf ? blockIdx.x % 2 : 0;
  const int steps = kHalf ? 1 : (batch - first + step - 1) / step;

  if (threadIdx.x == 0) {
    for (int i = 0; i < 2; ++i) {
      init(raw_full + 8 * i, 1);
      init(turned_full + 8 * i, 4);
      init(turned_empty + 8 * i, 8);
      init(turn + 8 * i, 4);
    }
    init(weights_full, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  // the zeros beside the first and the last position; nobody else writes these rows
  if (threadIdx.x < 2 * 2 * (C / 8)) {
    const int stage = threadIdx.x % 2, side = threadIdx.x / 2 % 2, chunk = threadIdx.x / 4;
    const int row = side ? kMargin + L - (half ? 96 : 0) : kMargin - 1;
    if (!kHalf || side == half)
      *reinterpret_cast<uint4*>(memory + P::kTurnedAt + stage * P::kTurned + chunk * P::kChunk + row * 16) = uint4{0, 0, 0, 0};
    fence_async();
  }
  __syncthreads();

  const uint64_t shape = uint64_t{P::kChunk >> 4} << 16 | uint64_t{128 >> 4} << 32;  // of the descriptors: leading along channels, stride along positions
  if (group == 2) {  // copies and turns
    asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
    if (warp == 0) {
      if (lane == 0) {
        expect(raw_full, kRaw);
        load(base, x + int64_t{first} * (C * L), kRaw, raw_full);
        expect(weights_full, O * kWeightRow);
      }
      __syncwarp();
      for (int o = lane; o < O; o += 32) load(base + P::kOut + o * kWeightPitch, weight + o * (C * T), kWeightRow, weights_full);
      __syncwarp();
      if (lane == 0 && steps > 1) {
        expect(raw_full + 8, kRaw);
        load(base + kRaw, x + int64_t{first + step} * (C * L), kRaw, raw_full + 8);
      }
    }
    constexpr int kBlocks = kHalf ? 14 : L / 8;  // blocks of 8 positions
    constexpr int kUnits = 3 * kBlocks;
    const int block0 = half ? 11 : 0;
    // lane i points at row i % 8 of matrix i / 8
    const uint32_t from = base + lane * kRow + block0 * 16;
    const uint32_t to = base + P::kTurnedAt + lane / 8 * P::kChunk + (lane % 8 + (half ? 0 : kMargin)) * 16;
    for (int i = 0; i < steps; ++i) {
      const int stage = i % 2, round = i / 2 & 1;
      wait(raw_full + 8 * stage, round);
      wait(turned_empty + 8 * stage, round ^ 1);
      const uint32_t in = from + stage * kRaw, turned = to + stage * P::kTurned;
      for (int at = warp; at < kUnits; at += 4 * BATCHED) {
        uint32_t r[BATCHED][4];
#pragma unroll
        for (int j = 0; j < BATCHED; ++j) {
          const int unit = at + 4 * j;
          if (unit < kUnits) read_turned(r[j], in + unit % 3 * (32 * kRow) + unit / 3 * 16);
        }
#pragma unroll
        for (int j = 0; j < BATCHED; ++j) {
          const int unit = at + 4 * j;
          if (unit < kUnits) write4(turned + unit % 3 * (4 * P::kChunk) + unit / 3 * 128, r[j][0], r[j][1], r[j][2], r[j][3]);
        }
      }
      fence_async();
      __syncwarp();
      if (lane == 0) arrive(turned_full + 8 * stage);
      asm volatile("bar.sync 1, 128;" ::: "memory");  // all four warps have read this raw buffer
      if (warp == 0 && lane == 0 && i + 2 < steps) {
        expect(raw_full + 8 * stage, kRaw);
        load(base + stage * kRaw, x + int64_t{first + (i + 2) * step} * (C * L), kRaw, raw_full + 8 * stage);
      }
    }
  } else if (group == 0) {  // outputs 0-63: three taps of six steps
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    const int row0 = warp * 16, upper = row0 + lane / 4;
    const float bias0 = __half2float(bias[upper * bias_step]), bias1 = __half2float(bias[(upper + 8) * bias_step]);
    uint32_t a[T][C / 16][4];
    wait(weights_full, 0);
#pragma unroll
    for (int s = 0; s < C / 16; ++s) {
#pragma unroll
      for (int part = 0; part < 4; ++part) {  // rows g, g + 8; then 8 channels on
        const Taps taps = read_taps(memory + P::kOut, upper + part % 2 * 8, s, part / 2, lane);
        a[0][s][part] = taps.of[0];
        a[1][s][part] = taps.of[1];
        a[2][s][part] = taps.of[2];
      }
    }
    asm volatile("bar.sync 2, 256;" ::: "memory");  // the staging of outputs lies over the weights

    const uint32_t staging = base + P::kOut + row0 * kRow;
    const uint32_t place = staging + (lane % 16) * kRow + lane / 16 * 16;
    float d[N / 2];
    for (int i = 0; i < steps; ++i) {
      const int stage = i % 2, round = i / 2 & 1;
      wait(turned_full + 8 * stage, round);
      if (!kHalf) wait(turn, (i & 1) ^ 1);
      const uint64_t tile = shape | static_cast<uint64_t>((base + P::kTurnedAt + stage * P::kTurned + (kMargin - 1) * 16) >> 4);
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int s = 0; s < C / 16; ++s) {
#pragma unroll
        for (int tap = 0; tap < T; ++tap) multiply(d, a[tap][s], tile + (2 * s * P::kRows + tap), s + tap != 0);
      }
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      if (!kHalf && lane == 0) arrive(turn + 8);
      __syncwarp();
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
      for (int j = 0; j < N / 2; ++j) asm volatile("" : "+f"(d[j])::"memory");
      if (lane == 0) arrive(turned_empty + 8 * stage);
      store_read();
      __syncwarp();
#pragma unroll
      for (int j = 0; j < N / 16; ++j)
        write4(place + 32 * j, pack(d[8 * j] + bias0, d[8 * j + 1] + bias0), pack(d[8 * j + 2] + bias1, d[8 * j + 3] + bias1),
               pack(d[8 * j + 4] + bias0, d[8 * j + 5] + bias0), pack(d[8 * j + 6] + bias1, d[8 * j + 7] + bias1));
      write2(staging + (lane % 16) * kRow + (N / 8 - 1) * 16, pack(d[N / 2 - 4] + bias0, d[N / 2 - 3] + bias0),
             pack(d[N / 2 - 2] + bias1, d[N / 2 - 1] + bias1));
      fence_async();
      __syncwarp();
      store_rows<kHalf, 16>(out + int64_t{first + i * step} * (O * L) + row0 * L, staging, half, lane);
    }
    store_read();
  } else {
    // Outputs 64-95 fill half of 64 rows; the other half takes a tap of the same outputs over: a warp's rows 0-7 are outputs' taps 1 and 2,
    // rows 8-15 the same outputs' tap 0, whose column n belongs to position n + 1. So the middle and the right view of x suffice: 12 steps, not 18.
    asm volatile("setmaxnreg.inc.sync.aligned.u32 224;");
    const int row0 = 64 + warp * 8, output = row0 + lane / 4;
    const float shift = __half2float(bias[output * bias_step]);
    uint32_t a[2][C / 16][4];
    wait(weights_full, 0);
#pragma unroll
    for (int s = 0; s < C / 16; ++s) {
#pragma unroll
      for (int part = 0; part < 2; ++part) {
        const Taps taps = read_taps(memory + P::kOut, output, s, part, lane);
        a[0][s][2 * part] = taps.of[1];
        a[0][s][2 * part + 1] = taps.of[0];
        a[1][s][2 * part] = taps.of[2];
        a[1][s][2 * part + 1] = 0;
      }
    }
    asm volatile("bar.sync 2, 256;" ::: "memory");

    const uint32_t staging = base + P::kOut + row0 * kRow;
    const uint32_t place = staging + (lane % 8) * kRow + lane / 8 * 16;
    const int left = (lane & 28) | ((lane + 3) & 3);
    float d[N / 2];
    for (int i = 0; i < steps; ++i) {
      const int stage = i % 2, round = i / 2 & 1;
      wait(turned_full + 8 * stage, round);
      if (!kHalf) wait(turn + 8, i & 1);
      const uint64_t tile = shape | static_cast<uint64_t>((base + P::kTurnedAt + stage * P::kTurned + kMargin * 16) >> 4);
      asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
      for (int s = 0; s < C / 16; ++s) {
#pragma unroll
        for (int view = 0; view < 2; ++view) multiply(d, a[view][s], tile + (2 * s * P::kRows + view), s + view != 0);
      }
      asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
      if (!kHalf && lane == 0) arrive(turn);
      __syncwarp();
      asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
      for (int j = 0; j < N / 2; ++j) asm volatile("" : "+f"(d[j])::"memory");
      if (lane == 0) arrive(turned_empty + 8 * stage);
      store_read();
      __syncwarp();
      float before = 0.0f;  // of the block of 8 positions before: its last position's tap 0
      uint32_t packed[4];
#pragma unroll
      for (int j = 0; j < N / 8; ++j) {
        const float near = __shfl_sync(0xffffffffu, d[4 * j + 3], left);
        const float low = d[4 * j] + (lane % 4 == 0 ? before : near), high = d[4 * j + 1] + d[4 * j + 2];
        before = near;
        packed[j % 4] = pack(low + shift, high + shift);
        if (j % 4 == 3) write4(place + (j / 4) * 64, packed[0], packed[1], packed[2], packed[3]);
      }
      static_assert(N / 8 % 4 == 1, "the last block of 8 positions is alone");
      write1(staging + (lane % 8) * kRow + (N / 8 - 1) * 16, packed[0]);
      fence_async();
      __syncwarp();
      store_rows<kHalf, 8>(out + int64_t{first + i * step} * (O * L) + row0 * L, staging, half, lane);
    }
    store_read();
  }
#endif
}

// Any sizes and strides: one output a thread.
__global__ void __launch_bounds__(GENERAL)
    general_kernel(const __half* x, int64_t x_batch, int64_t x_channel, int64_t x_step, const __half* weight, int64_t w_out, int64_t w_in,
                   int64_t w_tap, const __half* bias, int64_t bias_step, __half* out, int64_t channels, int64_t outputs, int64_t length,
                   int64_t taps, int64_t out_length, int64_t count) {
  const int64_t at = int64_t{blockIdx.x} * GENERAL + threadIdx.x;
  if (at >= count) return;
  const int64_t position = at % out_length, row = at / out_length, output = row % outputs, element = row / outputs;
  const int64_t from = position == 0 ? 1 : 0, to = taps < length + 1 - position ? taps : length + 1 - position;  // taps inside of x
  const __half* input = x + element * x_batch + (position - 1) * x_step;
  const __half* weights = weight + output * w_out;
  float sum = 0.0f;
  for (int64_t channel = 0; channel < channels; ++channel) {
    for (int64_t tap = from; tap < to; ++tap)
      sum += __half2float(input[channel * x_channel + tap * x_step]) * __half2float(weights[channel * w_in + tap * w_tap]);
  }
  out[at] = __float2half_rn(sum + __half2float(bias[output * bias_step]));
}

void check() {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) TVM_FFI_THROW(RuntimeError) << cudaGetErrorString(error);
}

template <int N>
void launch(int64_t blocks, cudaStream_t stream, const __half* x, const __half* weight, const __half* bias, int64_t bias_step, __half* out,
            int64_t batch) {
  cudaFuncSetAttribute(product_kernel<N>, cudaFuncAttributeMaxDynamicSharedMemorySize, Plan<N>::kBytes);
  product_kernel<N>
      <<<static_cast<unsigned>(blocks), kThreads, Plan<N>::kBytes, stream>>>(x, weight, bias, bias_step, out, static_cast<int>(batch));
}

ffi::Tensor conv1d(ffi::TensorView x, ffi::TensorView weight, ffi::TensorView bias) {
  const DLDataType dtype = x.dtype();
  if (dtype.code != kDLFloat || dtype.bits != 16) TVM_FFI_THROW(TypeError) << "expected float16";
  const int64_t batch = x.size(0), channels = x.size(1), length = x.size(2), outputs = weight.size(0), taps = weight.size(2);
  const int64_t out_length = length + 3 - taps > 0 ? length + 3 - taps : 0;
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, ffi::Shape({batch, outputs, out_length}), dtype, x.device());
  const int64_t count = batch * outputs * out_length;
  if (count == 0) return out;
  const auto stream = static_cast<cudaStream_t>(TVMFFIEnvGetStream(x.device().device_type, x.device().device_id));
  const __half* from = static_cast<const __half*>(x.data_ptr());
  const __half* weights = static_cast<const __half*>(weight.data_ptr());
  const __half* shift = static_cast<const __half*>(bias.data_ptr());
  __half* to = static_cast<__half*>(out.data_ptr());
  const bool aligned = ((reinterpret_cast<uintptr_t>(from) | reinterpret_cast<uintptr_t>(weights) | reinterpret_cast<uintptr_t>(to)) & 15) == 0;
  const bool dense = (batch == 1 || x.stride(0) == C * L) && x.stride(1) == L && x.stride(2) == 1 && weight.stride(0) == C * T &&
                     weight.stride(1) == T && weight.stride(2) == 1;
  if (channels == C && outputs == O && length == L && taps == T && aligned && dense && batch < (int64_t{1} << 24)) {
    if (batch <= SPLIT_UP_TO) {
      launch<104>(2 * batch, stream, from, weights, shift, bias.stride(0), to, batch);
    } else {
      launch<200>(batch < BLOCKS ? batch : BLOCKS, stream, from, weights, shift, bias.stride(0), to, batch);
    }
  } else {
    general_kernel<<<static_cast<unsigned>((count + GENERAL - 1) / GENERAL), GENERAL, 0, stream>>>(
        from, x.stride(0), x.stride(1), x.stride(2), weights, weight.stride(0), weight.stride(1), weight.stride(2), shift, bias.stride(0), to,
        channels, outputs, length, taps, out_length, count);
  }
  check();
  return out;
}

}  // namespace
TVM_FFI_DLL_EXPORT_TYPED_FUNC(conv1d, conv1d);
