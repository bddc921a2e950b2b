// Where a rank computes and how it reaches its peers: the CPU and Gloo; in a build with
// --config=cuda also a GPU and NCCL.
#ifndef LATHE_LAUNCHERS_DEVICE_H_
#define LATHE_LAUNCHERS_DEVICE_H_

#include <chrono>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "c10/core/Device.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {

// The GPU of this rank's number on its machine where the build and the machine have GPUs and not
// `use_cpu`, else the CPU. `backend`: --ddp_backend, "" for the one that fits. Errors:
// InvalidArgument if the machine has fewer GPUs than ranks, or if the backend does not serve the
// device.
absl::StatusOr<c10::Device> ChooseDevice(bool use_cpu, std::string_view backend,
                                         const LaunchEnvironment& environment);

// The transport for ranks that compute on `device`. Gloo listens at `address`; NCCL chooses by
// itself (NCCL_SOCKET_IFNAME).
BackendFactory ConnectRanks(c10::Device device, RendezvousStore store,
                            std::chrono::milliseconds timeout, const std::string& address);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_DEVICE_H_
