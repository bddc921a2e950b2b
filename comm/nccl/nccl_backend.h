// NCCL transport (GPUs) through LibTorch's c10d::ProcessGroupNCCL. Built with --config=cuda only.
//
//   ABSL_ASSIGN_OR_RETURN(auto store, OpenTcpStore(host, port, world_size, rank == 0, timeout));
//   ABSL_ASSIGN_OR_RETURN(auto context, ParallelContext::Create(
//       mesh, rank, ConnectNccl(store, timeout, device), device));
//
// A collective blocks until it is done on the device, and fails as CollectiveError where c10d by
// default ends the process. Tensors in the host's memory (counts, flags, file contents) travel
// through the device. Two ranks cannot share a GPU.
#ifndef LATHE_COMM_NCCL_NCCL_BACKEND_H_
#define LATHE_COMM_NCCL_NCCL_BACKEND_H_

#include <chrono>

#include "c10/core/Device.h"
#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {

// GPUs that this process may use (CUDA_VISIBLE_DEVICES counts); 0 without a driver.
int NumGpus();

// The GPU of this thread's calls that name none. From then on this process's kernels are LibTorch's
// deterministic ones: the same input, the same bits. Before a GPU is first used.
void UseGpu(int index);

// A factory for ParallelContext::Create of the rank that computes on `device`, a GPU. A collective
// that takes longer than `timeout` fails.
BackendFactory ConnectNccl(RendezvousStore store, std::chrono::milliseconds timeout,
                           c10::Device device);

}  // namespace lathe

#endif  // LATHE_COMM_NCCL_NCCL_BACKEND_H_
