// Gloo transport (CPU, TCP) through LibTorch's c10d::ProcessGroupGloo.
//
//   auto store = OpenTcpStore("10.0.0.1", 29500, world_size, /*is_server=*/rank == 0, timeout);
//   auto context = ParallelContext::Create(
//       mesh, rank, ConnectGloo(*store, timeout, /*loopback=*/false), c10::kCPU);
//
// Tests run ranks as threads over an in-process store: see thread_ranks.h.
// Environment: GLOO_SOCKET_IFNAME picks the network interface, as in PyTorch.
#ifndef LATHE_COMM_GLOO_GLOO_BACKEND_H_
#define LATHE_COMM_GLOO_GLOO_BACKEND_H_

#include <chrono>

#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {

// A factory for ParallelContext::Create. A collective that takes longer than `timeout` fails.
// Ranks that are threads of one process or processes of one host listen on 127.0.0.1 when
// `loopback`.
BackendFactory ConnectGloo(RendezvousStore store, std::chrono::milliseconds timeout, bool loopback);

}  // namespace lathe

#endif  // LATHE_COMM_GLOO_GLOO_BACKEND_H_
