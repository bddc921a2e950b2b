#include "lathe/launchers/offload.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/status/status_macros.h"
#include "lathe/base/logging.h"

namespace lathe {
namespace {

absl::StatusOr<std::unique_ptr<DiskStore>> OpenDisk(const OffloadSettings& settings,
                                                    const DiskSettings& disk) {
  if (settings.device != OffloadDevice::kNvme) return nullptr;
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<DiskStore> store,
                        DiskStore::Create(settings.nvme_path, disk));
  if (!store->is_direct()) {
    LOG(WARNING) << "nvme_path " << settings.nvme_path
                 << " is on a file system without direct reads and writes: the page cache is in "
                    "between, which takes memory while it can get it";
  }
  return store;
}

}  // namespace

bool UsesDisk(const ZeroSettings& settings) {
  return settings.offload_optimizer.device == OffloadDevice::kNvme ||
         settings.offload_param.device == OffloadDevice::kNvme;
}

absl::StatusOr<Offload> BuildOffload(const ZeroSettings& settings, c10::Device device) {
  const OffloadSettings& states = settings.offload_optimizer;
  const OffloadSettings& weights = settings.offload_param;
  Offload offload;
  ABSL_ASSIGN_OR_RETURN(offload.states_disk, OpenDisk(states, settings.disk));
  ABSL_ASSIGN_OR_RETURN(offload.weights_disk, OpenDisk(weights, settings.disk));
  offload.states = {.to_host = states.device == OffloadDevice::kCpu,
                    .pin_memory = states.pin_memory,
                    .disk = offload.states_disk.get(),
                    .num_buffers = static_cast<int>(states.buffer_count)};
  offload.states.stretch_elements =
      std::min(offload.states.stretch_elements, settings.sub_group_size);
  offload.weights = {.to_host = weights.device == OffloadDevice::kCpu,
                     .pin_memory = weights.pin_memory,
                     .disk = offload.weights_disk.get(),
                     .elements_in_memory = weights.max_in_cpu};
  if (device.is_cpu() && (offload.states.to_host || offload.weights.to_host)) {
    LOG(INFO) << "Offload to \"cpu\" moves nothing: this run's device is the CPU";
  }
  return offload;
}

}  // namespace lathe
