#include <utility>

#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/launchers/device.h"

namespace lathe {

absl::StatusOr<c10::Device> ChooseDevice(bool, const LaunchEnvironment&) {
  return c10::Device(c10::kCPU);
}

BackendFactory ConnectRanks(c10::Device, RendezvousStore store, std::chrono::milliseconds timeout,
                            bool loopback) {
  return ConnectGloo(std::move(store), timeout, loopback);
}

}  // namespace lathe
