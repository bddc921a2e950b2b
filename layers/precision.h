// The one rule for upcasts: what must not be computed in half precision is computed in max(dtype,
// fp32), so that an fp64 model runs the same code in fp64 (the equivalence tests depend on it).
// Nothing else names fp32.
#ifndef LATHE_LAYERS_PRECISION_H_
#define LATHE_LAYERS_PRECISION_H_

#include "ATen/core/Tensor.h"

namespace lathe {

// fp32 for the half types, the type itself otherwise.
inline at::ScalarType UpcastType(at::ScalarType type) {
  return type == at::kHalf || type == at::kBFloat16
             ? at::kFloat  // presubmit: allow the rule itself
             : type;
}

inline at::Tensor Upcast(const at::Tensor& tensor) {
  return tensor.to(UpcastType(tensor.scalar_type()));
}

}  // namespace lathe

#endif  // LATHE_LAYERS_PRECISION_H_
