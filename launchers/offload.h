// Where a run's optimizer states and weights go that the DeepSpeed file sends to the host's memory
// or to a disk.
#ifndef LATHE_LAUNCHERS_OFFLOAD_H_
#define LATHE_LAUNCHERS_OFFLOAD_H_

#include <memory>

#include "ATen/core/Tensor.h"
#include "absl/status/statusor.h"
#include "lathe/zero/disk_store.h"
#include "lathe/zero/zero_optimizer.h"
#include "lathe/zero/zero_settings.h"

namespace lathe {

// The disks of a run, and the optimizer's options that name them; they must outlive it.
struct Offload {
  std::unique_ptr<DiskStore> states_disk, weights_disk;  // null where there is none
  StateOffload states;
  WeightOffload weights;
};

// Whether something goes to a disk.
bool UsesDisk(const ZeroSettings& settings);

// Errors: DiskStore::Create's.
absl::StatusOr<Offload> BuildOffload(const ZeroSettings& settings, c10::Device device);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_OFFLOAD_H_
