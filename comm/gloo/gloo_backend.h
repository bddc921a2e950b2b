// Gloo transport (CPU, TCP) through LibTorch's c10d::ProcessGroupGloo.
//
//   auto store = OpenTcpStore("10.0.0.1", 29500, world_size, /*is_server=*/rank == 0, timeout);
//   auto context = ParallelContext::Create(mesh, rank, ConnectGloo(*store, timeout), c10::kCPU);
//
// Tests run ranks as threads over an in-process store: see thread_ranks.h.
// Environment: GLOO_SOCKET_IFNAME picks the network interface, as in PyTorch.
#ifndef LATHE_COMM_GLOO_GLOO_BACKEND_H_
#define LATHE_COMM_GLOO_GLOO_BACKEND_H_

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "lathe/comm/parallel_context.h"
#include "torch/csrc/distributed/c10d/Store.hpp"

namespace lathe {

using RendezvousStore = c10::intrusive_ptr<c10d::Store>;

// The key-value store at which ranks find each other. Rank 0 (`is_server`) listens on `port` of
// `host`. Errors: Unavailable (nobody listens within `timeout`, or the port is taken), naming
// MASTER_ADDR and MASTER_PORT.
absl::StatusOr<RendezvousStore> OpenTcpStore(const std::string& host, int port, int world_size,
                                             bool is_server, std::chrono::milliseconds timeout);

// A store for ranks that are threads of this process.
RendezvousStore MakeThreadStore();

// A factory for ParallelContext::Create. A collective that takes longer than `timeout` fails.
// Ranks that are threads of one process or processes of one host listen on 127.0.0.1 when
// `loopback`.
BackendFactory ConnectGloo(RendezvousStore store, std::chrono::milliseconds timeout, bool loopback);

}  // namespace lathe

#endif  // LATHE_COMM_GLOO_GLOO_BACKEND_H_
