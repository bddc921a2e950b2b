// Gloo transport (CPU, TCP) through LibTorch's c10d::ProcessGroupGloo.
//
//   auto store = OpenTcpStore("10.0.0.1", 29500, world_size, /*is_server=*/rank == 0, timeout);
//   auto context = ParallelContext::Create(
//       mesh, rank, ConnectGloo(*store, timeout, "10.0.0.2"), c10::kCPU);
//
// Tests run ranks as threads over an in-process store: see thread_ranks.h.
#ifndef LATHE_COMM_GLOO_GLOO_BACKEND_H_
#define LATHE_COMM_GLOO_GLOO_BACKEND_H_

#include <chrono>
#include <string>

#include "lathe/comm/parallel_context.h"
#include "lathe/comm/rendezvous.h"

namespace lathe {

// A factory for ParallelContext::Create. A collective that takes longer than `timeout` fails.
// `address` is this machine's, numeric, at which the other ranks reach this one: for ranks of one
// machine 127.0.0.1, else see lathe/comm/local_address.h.
BackendFactory ConnectGloo(RendezvousStore store, std::chrono::milliseconds timeout,
                           const std::string& address);

}  // namespace lathe

#endif  // LATHE_COMM_GLOO_GLOO_BACKEND_H_
