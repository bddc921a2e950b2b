// Where the ranks of a run find each other, and through which network interface.
#ifndef LATHE_LAUNCHERS_RANK_MEETING_H_
#define LATHE_LAUNCHERS_RANK_MEETING_H_

#include <string>

#include "absl/status/statusor.h"
#include "lathe/comm/launch_environment.h"
#include "lathe/comm/rendezvous.h"
#include "lathe/launchers/run_config.pb.h"

namespace lathe {

struct RankMeeting {
  RendezvousStore store;
  std::string address;  // where this rank listens for the others
};

// Opens the store at the master's address, waits for all ranks, and makes sure that they have the
// same `flags`. A rank listens on loopback when all are on one machine, else at the
// address from which this machine reaches the master's; GLOO_SOCKET_IFNAME names an interface
// instead.
// Errors, in a line: what OpenTcpStore, MeetRanks and ReachableAddress say.
absl::StatusOr<RankMeeting> MeetOtherRanks(const RunConfig& config,
                                           const LaunchEnvironment& environment,
                                           const std::string& flags);

}  // namespace lathe

#endif  // LATHE_LAUNCHERS_RANK_MEETING_H_
