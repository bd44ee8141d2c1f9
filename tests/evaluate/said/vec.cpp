#include <cmath>
#include <cstdint>
extern "C" void kernel(const float* __restrict x, float* __restrict y, int* __restrict idx, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += x[i] * x[i];
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * 2.0f + sum;
  for (int64_t i = 0; i < n; ++i) {
    if (x[i] < 0) break;
    y[i] = std::exp(x[i]);
  }
  for (int64_t i = 1; i < n; ++i) y[i] = y[i - 1] + x[i];
}
