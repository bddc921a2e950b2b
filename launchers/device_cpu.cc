#include <utility>

#include "absl/status/status.h"
#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/launchers/device.h"

namespace lathe {

absl::StatusOr<c10::Device> ChooseDevice(bool, std::string_view backend, const LaunchEnvironment&) {
  if (backend == "nccl") {
    return absl::InvalidArgumentError(
        "--ddp_backend nccl needs a build with --config=cuda; leave it out, or give gloo");
  }
  return c10::Device(c10::kCPU);
}

BackendFactory ConnectRanks(c10::Device, RendezvousStore store, std::chrono::milliseconds timeout,
                            const std::string& address) {
  return ConnectGloo(std::move(store), timeout, address);
}

}  // namespace lathe
