// The key-value store at which ranks find each other before they have a transport.
//
//   auto store = OpenTcpStore("node0", 29500, world_size, /*is_server=*/rank == 0, timeout);
//   auto addresses = MeetRanks(**store, {.rank = rank, .world_size = world_size, ...}, timeout);
#ifndef LATHE_COMM_RENDEZVOUS_H_
#define LATHE_COMM_RENDEZVOUS_H_

#include <chrono>
#include <string>
#include <vector>

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

// The same store with keys of its own: torchrun's may be used again when it restarts the ranks.
RendezvousStore WithPrefix(const std::string& prefix, RendezvousStore store);

struct RankCard {
  int rank = 0;
  int world_size = 1;
  std::string name;     // for messages: "process 17 on host a"
  std::string address;  // what the others shall know
  // What must be equal on all ranks, in lines.
  std::string common;
};

// Waits until all ranks are there and of one mind; the first collective of a run, before there are
// groups. Returns the ranks' addresses, by rank.
// Errors, the same on all ranks that have come: AlreadyExists (two processes for one rank),
// InvalidArgument (another world size, or a line of `common` that differs: it is named),
// DeadlineExceeded naming the ranks that did not come; Unavailable when the store is gone.
absl::StatusOr<std::vector<std::string>> MeetRanks(c10d::Store& store, const RankCard& card,
                                                   std::chrono::milliseconds timeout);

}  // namespace lathe

#endif  // LATHE_COMM_RENDEZVOUS_H_
