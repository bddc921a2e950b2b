#include "lathe/launchers/rank_meeting.h"

#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/status/status_macros.h"
#include "absl/strings/str_cat.h"
#include "lathe/base/logging.h"
#include "lathe/comm/local_address.h"

namespace lathe {
namespace {

std::string HostName() {
  char name[256] = {};
  return gethostname(name, sizeof(name) - 1) == 0 ? name : "unknown";
}

}  // namespace

absl::StatusOr<RankMeeting> MeetOtherRanks(const RunConfig& config,
                                           const LaunchEnvironment& environment,
                                           const std::string& flags) {
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  const bool is_chosen = interface != nullptr && *interface != '\0';
  LocalAddress own{.address = "127.0.0.1", .interface = "lo"};
  if (environment.several_hosts()) {
    // Also before the store: it would look for a master that has no such name until time is up.
    ABSL_ASSIGN_OR_RETURN(own, AddressTowards(environment.master_address));
  }
  if (is_chosen) {
    ABSL_ASSIGN_OR_RETURN(own, AddressOfInterface(interface));
  }

  const std::chrono::milliseconds timeout = std::chrono::seconds(config.parallel().ddp_timeout());
  const bool is_server = environment.rank == 0 && !environment.agent_store;
  RankMeeting meeting;
  ABSL_ASSIGN_OR_RETURN(meeting.store,
                        OpenTcpStore(environment.master_address, environment.master_port,
                                     environment.world_size, is_server, timeout));
  meeting.store = WithPrefix(absl::StrCat("lathe/", environment.restart), std::move(meeting.store));

  ABSL_ASSIGN_OR_RETURN(
      const std::vector<std::string> addresses,
      MeetRanks(*meeting.store,
                {.rank = environment.rank,
                 .world_size = environment.world_size,
                 .name = absl::StrCat("process ", getpid(), " on host ", HostName()),
                 .address = own.address,
                 .common = flags},
                timeout));
  if (environment.several_hosts() && !is_chosen) {
    ABSL_ASSIGN_OR_RETURN(own, ReachableAddress(addresses, environment.rank));
  }
  if (environment.several_hosts() && environment.local_rank == 0) {
    LOG(WARNING) << "Host " << HostName() << " listens at " << own.address << " ("
                 << own.interface << ")";
  }
  meeting.address = own.address;
  return meeting;
}

}  // namespace lathe
