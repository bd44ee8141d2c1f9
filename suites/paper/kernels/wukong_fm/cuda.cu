// wukong_fm: (X X^T) Y, the Gram matrix of the features first
// idea: one block an entry of the batch, Y turned into the output in place in shared memory between contiguous bulk loads and bulk stores
// spec: suites/paper/test_paper_recommendation.py::test_wukong_fm
// target: cuda
// parent: agent
// measured: 256-24-224-2198-float16: 14.40x [14.17, 14.63] over eager, 7 pairs
// measured: 256-24-224-2198-float16: 12.71x [12.49, 12.94] over compile, 7 pairs
// measured: 1024-24-224-2198-float16: 16.99x [16.91, 17.08] over eager, 7 pairs
// measured: 1024-24-224-2198-float16: 16.98x [16.93, 17.02] over compile, 7 pairs
// measured: 1024-40-224-448-float16: 4.08x [4.04, 4.12] over eager, 7 pairs
// measured: 1024-40-224-448-float16: 4.13x [4.00, 4.26] over compile, 7 pairs
// measured: 1024-48-224-448-float16: 3.57x [3.54, 3.60] over eager, 7 pairs
// measured: 1024-48-224-448-float16: 3.57x [3.53, 3.61] over compile, 7 pairs
// shapes: 256-24-224-2198-float16, 1024-24-224-2198-float16, 1024-40-224-448-float16, 1024-48-224-448-float16
// hardware: NVIDIA H200
// toolchain: nvcc 13.0.88, flags -std=c++17 -O3 --ptxas-options=-v -shared -Xcompiler=-fPIC -cudart=static --expt-relaxed-constexpr, tvm_ffi 0.1.15.post2
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <tvm/ffi/extra/c_env_api.h>
#include <tvm/ffi/tvm_ffi.h>

#include <cstdint>

namespace ffi = tvm::ffi;
namespace {

constexpr int WIDE_WARPS = 8;   // tune: 4, 8, 12
constexpr int WIDE_CHUNK = 24;  // tune: 16, 24, 36, 69
constexpr int SMALL_WARPS = 4;  // tune: 4, 7, 8

// ---- small wrappers of instructions ----

__device__ __forceinline__ uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

__device__ __forceinline__ void barrier_init(uint32_t bar, uint32_t count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_expect(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}

__device__ __forceinline__ void barrier_wait(uint32_t bar, uint32_t parity) {
  uint32_t done = 0;
  while (!done) {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(bar), "r"(parity)
        : "memory");
  }
}

__device__ __forceinline__ uint64_t read_once_policy() {
  uint64_t policy;
  asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

__device__ __forceinline__ void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t bar, uint64_t policy) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(to), "l"(from),
               "r"(bytes), "r"(bar), "l"(policy)
               : "memory");
}

__device__ __forceinline__ void bulk_store(void* to, uint32_t from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

__device__ __forceinline__ void mma16(float (&d)[4], const uint32_t* a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma8(float (&d)[4], const uint32_t* a, uint32_t b0) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(b0));
}

__device__ __forceinline__ uint32_t pack(float low, float high) {
  const __half2 both = __floats2half2_rn(low, high);
  return *reinterpret_cast<const uint32_t*>(&both);
}

// ---- the special kernel ----
//
// Rows of Y of K elements lie PITCH bytes apart in shared memory. Where the rows of Y are no multiples of 16 bytes (K = 2198), PITCH is the
// row itself: the entry lies there as in memory, and rows share 16-byte units. Row r then owns the bytes from its start rounded down to 16
// (start - lead(r)) to the next row's; columns are loaded, computed and stored chunk by chunk; store boundaries lie at S(c) from there, load
// boundaries 16 bytes behind (lead <= 12, so that all columns below 16 S(c) / 32 are there); a shared unit is stored with the last chunk.
template <int N_, int D_, int K_, int PITCH_, int WARPS_, int GROUPS_, int CHUNK_, int BLOCKS_>
struct Plan {
  static constexpr int N = N_, D = D_, K = K_, PITCH = PITCH_, WARPS = WARPS_, CHUNK = CHUNK_, BLOCKS = BLOCKS_;
  static constexpr int GROUPS = GROUPS_;  // groups of 16 columns that a warp does at once
  static constexpr int THREADS = 32 * WARPS, ROW = 2 * K;
  static constexpr int UNIT = 16 * GROUPS, UNITS = (K + UNIT - 1) / UNIT, CHUNKS = (UNITS + CHUNK - 1) / CHUNK;
  static constexpr int M_TILES = (N + 15) / 16, N_TILES = N / 8, K_FULL = N / 16;
  static constexpr bool K_HALF = N % 16 != 0;
  static constexpr int K_TILES = K_FULL + (K_HALF ? 1 : 0);
  static constexpr int G_PITCH = N % 32 == 16 ? N + 8 : N;  // words
  static constexpr int Y_BYTES = (N * PITCH + 15) / 16 * 16, G_BYTES = N * G_PITCH * 4, SHARED = Y_BYTES + G_BYTES + 8 * CHUNKS;
  static_assert(N % 8 == 0 && D % 32 == 0 && K % 2 == 0 && (N * ROW) % 16 == 0 && PITCH % 4 == 0);
  static_assert(PITCH == ROW || (ROW % 16 == 0 && PITCH % 16 == 0 && PITCH > ROW));
  static_assert(WARPS >= M_TILES);

  static __host__ __device__ constexpr int lead(int row) { return (ROW * row) % 16; }
  static __host__ __device__ constexpr int bound(int chunk) { return 2 * UNIT * CHUNK * chunk; }  // S before this chunk
  static __host__ __device__ constexpr int row_end(int row) { return ROW + lead(row) - lead(row + 1); }
  static __host__ __device__ constexpr int load_from(int chunk) { return chunk == 0 ? 0 : bound(chunk) + 16; }
  static __host__ __device__ constexpr int load_to(int chunk, int row) { return chunk == CHUNKS - 1 ? row_end(row) : bound(chunk + 1) + 16; }
  static __host__ __device__ constexpr int store_from(int chunk, int row) { return chunk == 0 ? (lead(row) != 0 ? 16 : 0) : bound(chunk); }
  static __host__ __device__ constexpr int store_to(int chunk, int row) {
    return chunk == CHUNKS - 1 ? row_end(row) + (lead(row + 1) != 0 ? 16 : 0) : bound(chunk + 1);
  }
  static __host__ __device__ constexpr int chunk_bytes(int chunk) {
    int sum = 0;
    for (int row = 0; row < N; ++row) sum += load_to(chunk, row) - load_from(chunk);
    return sum;
  }
  static_assert(CHUNKS == 1 || bound(CHUNKS - 1) + 64 < ROW);  // the last chunk is not empty
};

template <class P>
__global__ void __launch_bounds__(P::THREADS, P::BLOCKS) entry_kernel(const __half* __restrict__ x, const __half* __restrict__ y, __half* __restrict__ out) {
  extern __shared__ __align__(128) unsigned char shared[];
  constexpr int N = P::N, D = P::D, K = P::K, PW = P::PITCH / 4, GP = P::G_PITCH;
  float* gram = reinterpret_cast<float*>(shared + P::Y_BYTES);
  const uint32_t y_at = shared_address(shared), bars = y_at + P::Y_BYTES + P::G_BYTES;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int64_t batch = blockIdx.x;
  const unsigned char* y_from = reinterpret_cast<const unsigned char*>(y + batch * (int64_t{N} * K));
  unsigned char* out_to = reinterpret_cast<unsigned char*>(out + batch * (int64_t{N} * K));

  if (warp == P::WARPS - 1) {
    if (lane == 0) {
#pragma unroll
      for (int c = 0; c < P::CHUNKS; ++c) barrier_init(bars + 8 * c, 1);
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
      asm volatile("fence.proxy.async;" ::: "memory");
    }
    __syncwarp();
    const uint64_t policy = read_once_policy();
#pragma unroll
    for (int c = 0; c < P::CHUNKS; ++c) {
      if (lane == 0) barrier_expect(bars + 8 * c, P::chunk_bytes(c));
      __syncwarp();
      for (int row = lane; row < N; row += 32) {
        const int from = P::load_from(c), bytes = P::load_to(c, row) - from;
        bulk_load(y_at + P::PITCH * row - P::lead(row) + from, y_from + P::ROW * row - P::lead(row) + from, bytes, bars + 8 * c, policy);
      }
    }
  }

  // Gram matrix: warp m has the rows 16 m to 16 m + 15. The 8 elements of a 16-byte load are the k of two steps, the same for A and B.
  if (warp < P::M_TILES) {
    const uint4* x_from = reinterpret_cast<const uint4*>(x + batch * (int64_t{N} * D)) + g * (D / 8) + t;
    float sum[P::N_TILES][4] = {};
    const bool second = 2 * warp + 1 < P::N_TILES;
#pragma unroll
    for (int s = 0; s < D / 32; ++s) {
      uint4 right[P::N_TILES];
#pragma unroll
      for (int n = 0; n < P::N_TILES; ++n) right[n] = __ldg(x_from + n * D + 4 * s);  // 8 rows of D / 8 a tile
      uint4 low = right[0], high = right[1];
#pragma unroll
      for (int m = 1; m < P::M_TILES; ++m) {
        if (warp == m) low = right[2 * m], high = right[2 * m + 1 < P::N_TILES ? 2 * m + 1 : 2 * m];
      }
      const uint32_t first_a[4] = {low.x, high.x, low.y, high.y}, second_a[4] = {low.z, high.z, low.w, high.w};
#pragma unroll
      for (int n = 0; n < P::N_TILES; ++n) mma16(sum[n], first_a, right[n].x, right[n].y);
#pragma unroll
      for (int n = 0; n < P::N_TILES; ++n) mma16(sum[n], second_a, right[n].z, right[n].w);
    }
    float* to = gram + (16 * warp + g) * GP + 2 * t;
#pragma unroll
    for (int n = 0; n < P::N_TILES; ++n) {
      *reinterpret_cast<float2*>(to + 8 * n) = make_float2(sum[n][0], sum[n][1]);
      if (second) *reinterpret_cast<float2*>(to + 8 * GP + 8 * n) = make_float2(sum[n][2], sum[n][3]);
    }
  }
  __syncthreads();  // also: the barriers are there

  // The Gram matrix as operand A: each row times a power of two, as the sum of two float16 (22 bits).
  uint32_t big[P::M_TILES][P::K_TILES][4], rest[P::M_TILES][P::K_TILES][4];
  float scale[P::M_TILES][2];
#pragma unroll
  for (int m = 0; m < P::M_TILES; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {  // rows g and g + 8 of the tile
      const bool there = 16 * m + 8 * h < N;
      const float* from = gram + (16 * m + 8 * h + g) * GP + 2 * t;
      float2 value[2 * P::K_TILES];
      float most = 0.0f;
#pragma unroll
      for (int j = 0; j < 2 * P::K_TILES; ++j) {
        value[j] = there && j < P::N_TILES ? *reinterpret_cast<const float2*>(from + 8 * j) : make_float2(0.0f, 0.0f);
        most = fmaxf(most, fmaxf(fabsf(value[j].x), fabsf(value[j].y)));
      }
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 1));
      most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, 2));
      const int exponent = min(max(static_cast<int>(__float_as_uint(most) >> 23), 64), 200);
      const float inverse = __uint_as_float(static_cast<uint32_t>(268 - exponent) << 23);  // the row's largest to 2^14 to 2^15
      scale[m][h] = __uint_as_float(static_cast<uint32_t>(exponent - 14) << 23);
#pragma unroll
      for (int j = 0; j < 2 * P::K_TILES; ++j) {
        const float left = value[j].x * inverse, right = value[j].y * inverse;
        const __half2 high = __floats2half2_rn(left, right);
        const float2 back = __half22float2(high);
        big[m][j / 2][j % 2 * 2 + h] = *reinterpret_cast<const uint32_t*>(&high);
        rest[m][j / 2][j % 2 * 2 + h] = pack(left - back.x, right - back.y);
      }
    }
  }

  uint32_t* words = reinterpret_cast<uint32_t*>(shared);
  const uint32_t* read_at = words + 2 * t * PW + g;
  uint32_t* write_at = words + g * PW + 2 * t;
#pragma unroll 1
  for (int c = 0; c < P::CHUNKS; ++c) {
    barrier_wait(bars + 8 * c, 0);
    const int last = min((c + 1) * P::CHUNK, P::UNITS);
#pragma unroll 1
    for (int unit = c * P::CHUNK + warp; unit < last; unit += P::WARPS) {
      float sum[P::GROUPS][P::M_TILES][2][4] = {};
      const int word = unit * (P::UNIT / 2);
      // A lane reads two neighbouring columns of a row: the even one is of tile 0, the odd one of tile 1.
#pragma unroll
      for (int k = 0; k < P::K_TILES; ++k) {
        uint32_t right[P::GROUPS][2][2];
#pragma unroll
        for (int q = 0; q < P::GROUPS; ++q) {
          const uint32_t* from = read_at + word + 8 * q + 16 * k * PW;
          const bool inside = K % P::UNIT == 0 || word + 8 * q + g < K / 2;
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            const bool real = inside && 16 * k + 8 * h < N;
            const uint32_t upper = real ? from[8 * h * PW] : 0u, lower = real ? from[(8 * h + 1) * PW] : 0u;
            right[q][0][h] = __byte_perm(upper, lower, 0x5410);
            right[q][1][h] = __byte_perm(upper, lower, 0x7632);
          }
        }
#pragma unroll
        for (int part = 0; part < 2; ++part) {
#pragma unroll
          for (int q = 0; q < P::GROUPS; ++q) {
#pragma unroll
            for (int m = 0; m < P::M_TILES; ++m) {
              const uint32_t* a = part == 0 ? big[m][k] : rest[m][k];
#pragma unroll
              for (int e = 0; e < 2; ++e) {
                if (k < P::K_FULL) {
                  mma16(sum[q][m][e], a, right[q][e][0], right[q][e][1]);
                } else {
                  mma8(sum[q][m][e], a, right[q][e][0]);
                }
              }
            }
          }
        }
      }
      __syncwarp();  // all of the warp have read
#pragma unroll
      for (int q = 0; q < P::GROUPS; ++q) {
#pragma unroll
        for (int m = 0; m < P::M_TILES; ++m) {
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            if (16 * m + 8 * h < N) {
              uint32_t* to = write_at + word + 8 * q + (16 * m + 8 * h) * PW;
              const float s = scale[m][h];
              const uint32_t one = pack(sum[q][m][0][2 * h] * s, sum[q][m][1][2 * h] * s);
              const uint32_t two = pack(sum[q][m][0][2 * h + 1] * s, sum[q][m][1][2 * h + 1] * s);
              if (K % P::UNIT == 0 && PW % 2 == 0) {
                *reinterpret_cast<uint2*>(to) = make_uint2(one, two);
              } else {
                const int place = word + 8 * q + 2 * t;
                if (K % P::UNIT == 0 || place < K / 2) to[0] = one;
                if (K % P::UNIT == 0 || place + 1 < K / 2) to[1] = two;
              }
            }
          }
        }
      }
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    if (warp == P::WARPS - 1) {
      for (int row = lane; row < N; row += 32) {
        const int from = P::store_from(c, row), bytes = P::store_to(c, row) - from;
        bulk_store(out_to + P::ROW * row - P::lead(row) + from, y_at + P::PITCH * row - P::lead(row) + from, bytes);
      }
      asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    }
  }
  if (warp == P::WARPS - 1) asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory");
}

// ---- the general kernels: any sizes and strides ----

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) gram_any(const __half* x, int64_t xb, int64_t xn, int64_t xd, float* gram, int64_t n, int64_t d, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * THREADS;
  for (int64_t at = int64_t{blockIdx.x} * THREADS + threadIdx.x; at < count; at += step) {
    const int64_t j = at % n, i = at / n % n, b = at / n / n;
    const __half *left = x + b * xb + i * xn, *right = x + b * xb + j * xn;
    float sum = 0.0f;
    for (int64_t k = 0; k < d; ++k) sum = fmaf(__half2float(left[k * xd]), __half2float(right[k * xd]), sum);
    gram[at] = sum;
  }
}

__global__ void __launch_bounds__(THREADS) product_any(const float* gram, const __half* y, int64_t yb, int64_t yn, int64_t yk, __half* out, int64_t n,
                                                       int64_t cols, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * THREADS;
  for (int64_t at = int64_t{blockIdx.x} * THREADS + threadIdx.x; at < count; at += step) {
    const int64_t k = at % cols, row = at / cols, b = row / n;
    const float* left = gram + row * n;
    const __half* right = y + b * yb + k * yk;
    float sum = 0.0f;
    for (int64_t j = 0; j < n; ++j) sum = fmaf(left[j], __half2float(right[j * yn]), sum);
    out[at] = __float2half_rn(sum);
  }
}

void check() {
  const cudaError_t error = cudaGetLastError();
  if (error != cudaSuccess) TVM_FFI_THROW(RuntimeError) << cudaGetErrorString(error);
}

template <class P>
void launch_entries(const __half* x, const __half* y, __half* out, int64_t batch, cudaStream_t stream) {
  cudaFuncSetAttribute(entry_kernel<P>, cudaFuncAttributeMaxDynamicSharedMemorySize, P::SHARED);
  entry_kernel<P><<<static_cast<unsigned>(batch), P::THREADS, P::SHARED, stream>>>(x, y, out);
  check();
}

unsigned blocks_for(int64_t count) {
  const int64_t blocks = (count + THREADS - 1) / THREADS;
  return static_cast<unsigned>(blocks < 132 * 64 ? blocks : 132 * 64);
}

ffi::Tensor wukong_fm(ffi::TensorView x, ffi::TensorView y) {
  ffi::Tensor out = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, y.shape(), y.dtype(), y.device());
  if (out.numel() == 0) return out;
  const DLDataType dtype = x.dtype();
  if (dtype.code != kDLFloat || dtype.bits != 16) TVM_FFI_THROW(TypeError) << "expected float16";
  const auto stream = static_cast<cudaStream_t>(TVMFFIEnvGetStream(x.device().device_type, x.device().device_id));
  const int64_t batch = x.size(0), n = x.size(1), d = x.size(2), k = y.size(2);
  const auto* from_x = static_cast<const __half*>(x.data_ptr());
  const auto* from_y = static_cast<const __half*>(y.data_ptr());
  auto* to = static_cast<__half*>(out.data_ptr());
  const auto dense = [](int64_t outer, int64_t s0, int64_t s1, int64_t s2, int64_t rows, int64_t cols) {
    return s2 == 1 && s1 == cols && (outer == 1 || s0 == rows * cols);
  };
  const uintptr_t places = reinterpret_cast<uintptr_t>(from_x) | reinterpret_cast<uintptr_t>(from_y) | reinterpret_cast<uintptr_t>(to);
  if (places % 16 == 0 && batch < (int64_t{1} << 31) && dense(batch, x.stride(0), x.stride(1), x.stride(2), n, d) &&
      dense(batch, y.stride(0), y.stride(1), y.stride(2), n, k)) {
    if (n == 24 && d == 224 && k == 2198) {
      launch_entries<Plan<24, 224, 2198, 4396, WIDE_WARPS, 2, WIDE_CHUNK, 2>>(from_x, from_y, to, batch, stream);
      return out;
    }
    if (n == 40 && d == 224 && k == 448) {
      launch_entries<Plan<40, 224, 448, 912, SMALL_WARPS, 1, 28, SMALL_WARPS == 4 ? 4 : 2>>(from_x, from_y, to, batch, stream);
      return out;
    }
    if (n == 48 && d == 224 && k == 448) {
      launch_entries<Plan<48, 224, 448, 912, SMALL_WARPS, 1, 28, SMALL_WARPS == 4 ? 3 : 2>>(from_x, from_y, to, batch, stream);
      return out;
    }
  }
  const ffi::Tensor gram = ffi::Tensor::FromEnvAlloc(TVMFFIEnvTensorAlloc, ffi::Shape({batch, n, n}), DLDataType{kDLFloat, 32, 1}, x.device());
  const int64_t pairs = batch * n * n, count = batch * n * k;
  gram_any<<<blocks_for(pairs), THREADS, 0, stream>>>(from_x, x.stride(0), x.stride(1), x.stride(2), static_cast<float*>(gram.data_ptr()), n, d, pairs);
  check();
  product_any<<<blocks_for(count), THREADS, 0, stream>>>(static_cast<const float*>(gram.data_ptr()), from_y, y.stride(0), y.stride(1), y.stride(2), to,
                                                         n, k, count);
  check();
  return out;
}

}  // namespace
TVM_FFI_DLL_EXPORT_TYPED_FUNC(wukong_fm, wukong_fm);
