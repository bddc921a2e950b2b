// Which of this machine's addresses other machines can reach.
//
//   AddressTowards("node0")        -> 10.0.0.2, eth0: the route's own answer
//   AddressOfInterface("ib0")      -> 192.168.7.2, ib0
//
// A host's own name is no guide: Debian has it resolve to 127.0.1.1. Thread rule: any thread.
#ifndef LATHE_COMM_LOCAL_ADDRESS_H_
#define LATHE_COMM_LOCAL_ADDRESS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace lathe {

struct LocalAddress {
  std::string address;    // numeric, IPv4 or IPv6
  std::string interface;  // "eth0"; "" when the system does not say
  bool is_loopback = false;
};

// The address from which this machine would talk to `host`, a name or an address. Nothing is sent
// to it (its name may be looked up). Errors: Unavailable, when the name is unknown or there is no
// route.
absl::StatusOr<LocalAddress> AddressTowards(const std::string& host);

// Errors: NotFound, naming the interfaces that there are.
absl::StatusOr<LocalAddress> AddressOfInterface(const std::string& interface);

// Where this rank listens when ranks are on several machines. `towards_master` has, by rank, the
// address from which each talks to rank 0's machine: this is loopback for ranks on that machine
// where it knows itself as 127.x, and then the way to another machine decides.
// Errors: FailedPrecondition, when all are loopback addresses.
absl::StatusOr<LocalAddress> ReachableAddress(const std::vector<std::string>& towards_master,
                                              int rank);

}  // namespace lathe

#endif  // LATHE_COMM_LOCAL_ADDRESS_H_
