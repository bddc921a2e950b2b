// The project's measure of difference between tensors, for tests: max|a − b| / max|b|.
#ifndef LATHE_LAYERS_RELATIVE_ERROR_H_
#define LATHE_LAYERS_RELATIVE_ERROR_H_

#include <algorithm>
#include <cmath>

#include "ATen/core/Tensor.h"

namespace lathe {

// `b` is the reference; `floor` bounds the denominator from below (for gradients: 1e-4 of the
// global norm). Infinity if the shapes differ, a is undefined, or a difference is not a
// number.
inline double RelativeError(const at::Tensor& a, const at::Tensor& b, double floor = 1e-300) {
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return HUGE_VAL;
  if (b.numel() == 0) return 0;
  const at::Tensor x = a.detach().to(at::kDouble), y = b.detach().to(at::kDouble);
  const double difference = x.sub(y).abs().max().item().toDouble();
  if (std::isnan(difference)) return HUGE_VAL;
  return difference / std::max(floor, y.abs().max().item().toDouble());
}

}  // namespace lathe

#endif  // LATHE_LAYERS_RELATIVE_ERROR_H_
