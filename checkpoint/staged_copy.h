// StagedCopy: tensors as they are now, in host memory, so that a thread can write them while
// training changes the originals.
//
//   StagedCopy staged;                                        // kept between saves
//   std::vector<NamedTensor> copy = staged.Copy(optimizer.Weights(at::kFloat));
//
// The memory is allocated by the first copy and used again by the next ones. Thread rule: one
// thread at a time; nobody may read a copy while the next one is made.
#ifndef LATHE_CHECKPOINT_STAGED_COPY_H_
#define LATHE_CHECKPOINT_STAGED_COPY_H_

#include <cstdint>
#include <vector>

#include "ATen/core/Tensor.h"
#include "absl/types/span.h"
#include "lathe/checkpoint/checkpoint.h"

namespace lathe {

class StagedCopy {
 public:
  // What SaveTensors writes of `tensors`, in their file_dtype: the same names, boxes and bytes.
  // Replicas that others save are listed without their pieces. The copies are valid until the next
  // call.
  std::vector<NamedTensor> Copy(absl::Span<const NamedTensor> tensors);

  // What the copies take.
  int64_t bytes() const { return memory_.defined() ? memory_.numel() : 0; }

 private:
  at::Tensor memory_;  // bytes; page-locked where the originals are on a GPU
};

}  // namespace lathe

#endif  // LATHE_CHECKPOINT_STAGED_COPY_H_
