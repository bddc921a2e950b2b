// The key-value store at which ranks find each other before they have a transport.
#ifndef LATHE_COMM_RENDEZVOUS_H_
#define LATHE_COMM_RENDEZVOUS_H_

#include <chrono>
#include <string>

#include "absl/status/statusor.h"
#include "torch/csrc/distributed/c10d/Store.hpp"

namespace lathe {

using RendezvousStore = c10::intrusive_ptr<c10d::Store>;

// Rank 0 (`is_server`) listens on `port` of `host`. Errors: Unavailable (nobody listens within
// `timeout`, or the port is taken), naming MASTER_ADDR and MASTER_PORT.
absl::StatusOr<RendezvousStore> OpenTcpStore(const std::string& host, int port, int world_size,
                                             bool is_server, std::chrono::milliseconds timeout);

// For ranks that are threads of this process.
RendezvousStore MakeThreadStore();

}  // namespace lathe

#endif  // LATHE_COMM_RENDEZVOUS_H_
