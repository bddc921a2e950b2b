// MetaMeter: the memory that tensors on the meta device would take. A rehearsal runs a step on that
// device, where operators make shapes and no data, and reads here what the step would need.
//
//   MetaMeter::Install();                     // before the first meta tensor
//   ... run a step with every tensor on at::kMeta ...
//   int64_t bytes = MetaMeter::peak_bytes();
//
// Counts as MemoryMeter does: the bytes of storages, while they live. Thread-safe.
#ifndef LATHE_LAYERS_META_METER_H_
#define LATHE_LAYERS_META_METER_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "ATen/ops/empty.h"
#include "ATen/ops/index_select.h"

namespace lathe {

class MetaMeter {
 public:
  static void Install();
  static int64_t current_bytes();
  static int64_t peak_bytes();
  static void ResetPeak();
};

// tensor[rows] along dim 0: at::index_select, which has no kernel for the meta device.
inline at::Tensor SelectRows(const at::Tensor& tensor, const at::Tensor& rows) {
  if (!tensor.is_meta()) return at::index_select(tensor, 0, rows);
  std::vector<int64_t> shape = tensor.sizes().vec();
  shape[0] = rows.numel();
  return at::empty(shape, tensor.options());
}

// The value of a tensor with one element; 0 in a rehearsal, where tensors have none.
inline double ValueOf(const at::Tensor& scalar) {
  return scalar.is_meta() ? 0.0 : scalar.item().toDouble();
}

}  // namespace lathe

#endif  // LATHE_LAYERS_META_METER_H_
