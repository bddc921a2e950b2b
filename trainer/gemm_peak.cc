#include "lathe/trainer/gemm_peak.h"

#include <algorithm>
#include <chrono>

#include "ATen/core/grad_mode.h"
#include "ATen/ops/full.h"
#include "ATen/ops/mm.h"

namespace lathe {

double MeasureGemmPeak(at::TensorOptions tensor_options) {
  const int64_t size = tensor_options.device().is_cpu() ? 768 : 8192;
  at::NoGradGuard no_grad;
  const at::Tensor a = at::full({size, size}, 0.5, tensor_options),
                   b = at::full({size, size}, 0.25, tensor_options);
  double best = 0, spent = 0;
  // Where products of this type are slow, as fp16's are on many CPUs, two have to do.
  for (int i = 0; i < 8 && (i < 2 || spent < 0.5); ++i) {
    const auto start = std::chrono::steady_clock::now();
    at::mm(a, b)[0][0].item();  // an accelerator is asynchronous: wait for it
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    spent += seconds;
    best = std::max(best, 2.0 * static_cast<double>(size * size * size) / seconds);
  }
  return best;
}

}  // namespace lathe
