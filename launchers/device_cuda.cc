#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/comm/nccl/nccl_backend.h"
#include "lathe/launchers/device.h"

namespace lathe {

absl::StatusOr<c10::Device> ChooseDevice(bool use_cpu, const LaunchEnvironment& environment) {
  if (use_cpu) return c10::Device(c10::kCPU);
  const int gpus = NumGpus();
  if (gpus == 0) {
    LOG(WARNING) << "No GPU can be used here (driver, CUDA_VISIBLE_DEVICES): training on the CPU";
    return c10::Device(c10::kCPU);
  }
  if (environment.local_world_size > gpus) {
    return absl::InvalidArgumentError(absl::StrCat(
        environment.local_world_size, " ranks on this machine, but ", gpus,
        " GPUs; lower --nproc_per_node, or give --use_cpu to train on the CPU"));
  }
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(environment.local_rank));
}

BackendFactory ConnectRanks(c10::Device device, RendezvousStore store,
                            std::chrono::milliseconds timeout, bool loopback) {
  if (device.is_cpu()) return ConnectGloo(std::move(store), timeout, loopback);
  return ConnectNccl(std::move(store), timeout, device);
}

}  // namespace lathe
