#include "lathe/trainer/gemm_peak.h"

#include <algorithm>
#include <chrono>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/full.h"
#include "ATen/ops/mm.h"

namespace lathe {

double MeasureGemmPeak(at::ScalarType dtype) {
  constexpr int64_t kSize = 768;
  at::NoGradGuard no_grad;
  const at::Tensor a = at::full({kSize, kSize}, 0.5, dtype),
                   b = at::full({kSize, kSize}, 0.25, dtype);
  double best = 0;
  for (int i = 0; i < 8; ++i) {
    const auto start = std::chrono::steady_clock::now();
    at::mm(a, b);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, 2.0 * kSize * kSize * kSize / seconds);
  }
  return best;
}

}  // namespace lathe
