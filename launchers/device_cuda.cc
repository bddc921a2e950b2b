#include <utility>

#include "absl/status/status.h"
#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/comm/gloo/gloo_backend.h"
#include "lathe/comm/nccl/nccl_backend.h"
#include "lathe/launchers/device.h"

namespace lathe {

namespace {

absl::StatusOr<c10::Device> ChooseAnyDevice(bool use_cpu, const LaunchEnvironment& environment) {
  if (use_cpu) return c10::Device(c10::kCPU);
  const int gpus = NumGpus();
  if (gpus == 0) {
    if (environment.local_rank == 0) {
      LOG(WARNING) << "No GPU can be used here (driver, CUDA_VISIBLE_DEVICES): training on the CPU";
    }
    return c10::Device(c10::kCPU);
  }
  // Slurm and Open MPI may show each rank only its own.
  const bool own_gpu =
      gpus == 1 && (environment.launcher == "slurm" || environment.launcher == "open_mpi");
  if (environment.local_world_size > gpus && !own_gpu) {
    return absl::InvalidArgumentError(
        absl::StrCat(environment.local_world_size, " ranks on this machine, but ", gpus,
                     " GPUs; lower --nproc_per_node, or give --use_cpu to train on the CPU"));
  }
  const int index = own_gpu ? 0 : environment.local_rank;
  UseGpu(index);
  return c10::Device(c10::kCUDA, static_cast<c10::DeviceIndex>(index));
}

}  // namespace

absl::StatusOr<c10::Device> ChooseDevice(bool use_cpu, std::string_view backend,
                                         const LaunchEnvironment& environment) {
  ABSL_ASSIGN_OR_RETURN(const c10::Device device, ChooseAnyDevice(use_cpu, environment));
  const std::string_view fits = device.is_cpu() ? "gloo" : "nccl";
  if (!backend.empty() && backend != fits) {
    return absl::InvalidArgumentError(absl::StrCat("--ddp_backend ", backend,
                                                   " does not serve device ", device.str(),
                                                   "; leave it out, or give ", fits));
  }
  return device;
}

BackendFactory ConnectRanks(c10::Device device, RendezvousStore store,
                            std::chrono::milliseconds timeout, const std::string& address) {
  if (device.is_cpu()) return ConnectGloo(std::move(store), timeout, address);
  return ConnectNccl(std::move(store), timeout, device);
}

}  // namespace lathe
