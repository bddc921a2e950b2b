#include "lathe/tensor_parallel/exp_rows_kernel.h"

#include <cstdint>

namespace lathe {
namespace {

#define LATHE_INLINE static inline __attribute__((always_inline))

LATHE_INLINE float BitsToFloat(int32_t bits) { return __builtin_bit_cast(float, bits); }
LATHE_INLINE int32_t FloatToBits(float value) { return __builtin_bit_cast(int32_t, value); }

// e^x for x ≤ 0, without branches, so that the compiler turns loops over it into vector code: 2^n ·
// e^r with n = round(x / ln 2) and |r| ≤ ln 2 / 2, e^r by its Taylor polynomial of degree 6 (error
// 2e-8 relative).
LATHE_INLINE float ExpNonPositive(float x) {
  constexpr float kLowest = -87.0f;  // e^-87 is the last normal power
  constexpr float kMagic =
      12582912.0f;  // 1.5 · 2^23: adding it rounds to an integer in the low bits
  const float clamped = x < kLowest ? kLowest : x;  // false for NaN, which then propagates
  const float shifted = clamped * 1.44269504088896341f + kMagic;
  const float n = shifted - kMagic;
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  // The low bits of `shifted` are n; moved into the exponent they multiply by 2^n.
  return BitsToFloat(FloatToBits(p) +
                     static_cast<int32_t>(static_cast<uint32_t>(FloatToBits(shifted)) << 23));
}

LATHE_INLINE void RowMaxBody(const float* logits, int64_t first, int64_t last, int64_t columns,
                             float* max) {
  for (int64_t r = first; r < last; ++r) {
    const float* row = logits + r * columns;
    float best = row[0];
    bool nan = false;
#pragma omp simd reduction(max : best) reduction(| : nan)
    for (int64_t c = 0; c < columns; ++c) {
      best = row[c] > best ? row[c] : best;
      nan |= row[c] != row[c];
    }
    max[r] = nan ? __builtin_nanf("") : best;
  }
}

LATHE_INLINE void ExpRowsBody(float* logits, int64_t first, int64_t last, int64_t columns,
                              const float* shift, float* sum) {
  for (int64_t r = first; r < last; ++r) {
    float* row = logits + r * columns;
    const float s = shift[r];
    // Partial sums of 4,096 elements keep the error of 150,000 additions in fp32 far below that of
    // one logit.
    float total = 0;
    for (int64_t begin = 0; begin < columns; begin += 4096) {
      const int64_t end = begin + 4096 < columns ? begin + 4096 : columns;
      float part = 0;
#pragma omp simd reduction(+ : part)
      for (int64_t c = begin; c < end; ++c) {
        const float e = ExpNonPositive(row[c] - s);
        row[c] = e;
        part += e;
      }
      total += part;
    }
    sum[r] = total;
  }
}

#define LATHE_AVX512 \
  __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,fma"), optimize("O3")))
#define LATHE_AVX2 __attribute__((target("avx2,fma"), optimize("O3")))
#define LATHE_BASELINE __attribute__((optimize("O3")))

LATHE_AVX512 void RowMaxAvx512(const float* l, int64_t f, int64_t e, int64_t c, float* m) {
  RowMaxBody(l, f, e, c, m);
}
LATHE_AVX2 void RowMaxAvx2(const float* l, int64_t f, int64_t e, int64_t c, float* m) {
  RowMaxBody(l, f, e, c, m);
}
LATHE_BASELINE void RowMaxBaseline(const float* l, int64_t f, int64_t e, int64_t c, float* m) {
  RowMaxBody(l, f, e, c, m);
}
LATHE_AVX512 void ExpRowsAvx512(float* l, int64_t f, int64_t e, int64_t c, const float* s,
                                float* t) {
  ExpRowsBody(l, f, e, c, s, t);
}
LATHE_AVX2 void ExpRowsAvx2(float* l, int64_t f, int64_t e, int64_t c, const float* s, float* t) {
  ExpRowsBody(l, f, e, c, s, t);
}
LATHE_BASELINE void ExpRowsBaseline(float* l, int64_t f, int64_t e, int64_t c, const float* s,
                                    float* t) {
  ExpRowsBody(l, f, e, c, s, t);
}

enum class Isa { kBaseline, kAvx2, kAvx512 };

Isa DetectIsa() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) {
    return Isa::kAvx512;
  }
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? Isa::kAvx2
                                                                         : Isa::kBaseline;
}

const Isa isa = DetectIsa();

}  // namespace

void RowMax(const float* logits, int64_t first, int64_t last, int64_t columns, float* max) {
  if (isa == Isa::kAvx512) return RowMaxAvx512(logits, first, last, columns, max);
  if (isa == Isa::kAvx2) return RowMaxAvx2(logits, first, last, columns, max);
  RowMaxBaseline(logits, first, last, columns, max);
}

void ExpRows(float* logits, int64_t first, int64_t last, int64_t columns, const float* shift,
             float* sum) {
  if (isa == Isa::kAvx512) return ExpRowsAvx512(logits, first, last, columns, shift, sum);
  if (isa == Isa::kAvx2) return ExpRowsAvx2(logits, first, last, columns, shift, sum);
  ExpRowsBaseline(logits, first, last, columns, shift, sum);
}

}  // namespace lathe
